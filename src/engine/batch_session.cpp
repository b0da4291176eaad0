// The part of ExpertSession that decodes several sequences in one pass.
#include <algorithm>

#include "engine/expert_session.h"

namespace moesim {

std::size_t ExpertSession::max_visit_experts() const {
  return std::min(shape().experts, parts_.tokens_in_pass * parts_.routing->max_experts());
}

VisitOutcome ExpertSession::decode_batch(const Pass& pass, LayerId layer) {
  const CacheOptions& options = parts_.cache->options();
  const bool one_by_one = options.accounting == Accounting::kAccess;
  // As ExpertCache::visit() takes the experts of one token.
  const bool best_last = !one_by_one && options.touch_order == TouchOrder::kAscending;
  begin_union();
  routed_.clear();
  for (std::size_t place = 0; place < pass.tokens.size(); ++place) {
    const PassToken& token = pass.tokens[place];
    Lane& lane = lanes_[token.lane];
    if (!lane.reader.set(lane.gate, token.row, layer)) continue;
    lane.chosen.clear();
    const RouterVisit visit{token.row, token.sequence, layer, lane.gate, pass.phase};
    const ResidencyView view = parts_.cache->view(layer);
    parts_.routing->route(visit, view, lane.chosen);
    check_selection(lane.chosen);
    order_by_weight(lane.gate, lane.chosen);
    if (best_last) std::reverse(by_weight_.begin(), by_weight_.end());
    for (const ExpertId expert : by_weight_) touch(expert, routed_.size());
    routed_.push_back(
        {place, &lane.gate, &lane.chosen, 0, 0, 0, parts_.routing->bias_divergence(visit, view)});
  }
  if (routed_.empty()) return {};
  end_union();
  const EventOutcome outcome = one_by_one
                                   ? parts_.cache->visit(decoded_tokens_, layer, by_weight_)
                                   : parts_.cache->visit_union(decoded_tokens_, layer, by_weight_);
  accounting_.count(decoded_tokens_, layer, outcome);
  judge_speculation(layer, outcome);
  share_out(outcome, layer);
  VisitOutcome visit;
  visit.visited = true;
  visit.accesses = outcome.accesses;
  visit.evicted = outcome.evicted;
  visit.event = outcome.number;
  visit.is_union = !one_by_one;
  visit.served = union_counts_;
  visit.tokens = routed_;
  return visit;
}

void ExpertSession::share_out(const EventOutcome& outcome, LayerId layer) {
  for (const Access& access : outcome.accesses) {
    RoutedToken& token = routed_[first_user_[index(access.expert)]];
    ++(access.kind == AccessKind::kHit ? token.hits : token.misses);
    if (access.kind == AccessKind::kMiss) {
      token.demand_bytes += expert_bytes(expert_key(layer, access.expert, shape().experts));
    }
  }
}

}  // namespace moesim
