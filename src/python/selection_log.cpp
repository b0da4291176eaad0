#include "python/selection_log.h"

#include <algorithm>

namespace moesim::python {

SelectionLog::SelectionLog(const RunPlan& plan)
    : tokens_(plan.schedule().measured_tokens),
      layers_(plan.trace().shape().layers),
      width_(plan.session().routing().max_experts()),
      ids_(tokens_ * layers_ * width_, kNoExpert),
      weights_(ids_.size()),
      hits_(ids_.size()) {}

void SelectionLog::on_visit(const Pass& pass, LayerId layer, const VisitOutcome& visit,
                            TimePoint /*at*/) {
  if (!pass.measured || visit.is_repeat) return;
  if (visit.executed != nullptr) write(next_, layer, *visit.executed, visit.accesses);
  for (const RoutedToken& token : visit.tokens) {
    write(next_ + token.place, layer, *token.executed, visit.accesses);
  }
}

void SelectionLog::on_pass(const PassRecord& record) {
  if (record.pass->measured) next_ += record.pass->decoded_tokens();
}

void SelectionLog::write(std::size_t token, LayerId layer, const Selection& chosen,
                         std::span<const Access> accesses) {
  const std::size_t first = (token * layers_ + index(layer)) * width_;
  for (std::size_t i = 0; i < chosen.ids.size(); ++i) {
    const ExpertId expert = chosen.ids[i];
    ids_[first + i] = static_cast<std::uint16_t>(index(expert));
    if (i < chosen.weights.size()) weights_[first + i] = chosen.weights[i];
    const auto access = std::find_if(accesses.begin(), accesses.end(),
                                     [expert](const Access& it) { return it.expert == expert; });
    hits_[first + i] = access != accesses.end() && access->kind == AccessKind::kHit ? 1 : 0;
  }
}

}  // namespace moesim::python
