#include "engine/replay.h"

namespace moesim {

VisitOutcome Replay::visit_layer(const Pass& pass, LayerId layer, std::uint32_t execution) {
  if (pass.phase == Phase::kPrefill) return session_.prefill(pass, layer);
  return execution == 0 ? session_.decode(pass, layer) : session_.repeat(layer);
}

void Replay::run(std::size_t first, std::size_t end, RunObserver* observer) {
  const std::size_t layers = session_.shape().layers;
  for (std::size_t i = first; i < end; ++i) {
    const Pass& pass = schedule_.passes[i];
    PassRecord record;
    record.pass = &pass;
    session_.begin_pass(pass);
    for (std::size_t l = 0; l < layers; ++l) {
      const auto layer = static_cast<LayerId>(l);
      const std::uint32_t executions = session_.executions(pass, layer);
      for (std::uint32_t execution = 0; execution < executions; ++execution) {
        const VisitOutcome visit = visit_layer(pass, layer, execution);
        record.experts += visit.accesses.size();
        if (observer != nullptr && visit.visited) {
          observer->on_visit(pass, layer, visit, TimePoint{});
        }
      }
    }
    const CacheCounts& counts = session_.accounting().counts();
    record.cache = counts - counted_;
    counted_ = counts;
    if (observer != nullptr) observer->on_pass(record);
  }
}

}  // namespace moesim
