#include "engine/replay.h"

namespace moesim {

void Replay::run(std::size_t first, std::size_t end, RunObserver* observer) {
  const std::size_t layers = session_.shape().layers;
  for (std::size_t i = first; i < end; ++i) {
    const Pass& pass = schedule_.passes[i];
    PassRecord record;
    record.pass = &pass;
    session_.begin_pass(pass);
    for (std::size_t l = 0; l < layers; ++l) {
      const auto layer = static_cast<LayerId>(l);
      const VisitOutcome visit = pass.phase == Phase::kPrefill ? session_.prefill(pass, layer)
                                                               : session_.decode(pass, layer);
      record.experts += visit.accesses.size();
      if (observer != nullptr && visit.visited) observer->on_visit(pass, layer, visit, TimePoint{});
    }
    const CacheCounts& counts = session_.accounting().counts();
    record.cache = counts - counted_;
    counted_ = counts;
    if (observer != nullptr) observer->on_pass(record);
  }
}

}  // namespace moesim
