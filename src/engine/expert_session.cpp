#include "engine/expert_session.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "core/errors.h"

namespace moesim {

ExpertSession::ExpertSession(SessionParts parts)
    : parts_(std::move(parts)),
      accounting_(parts_.trace->shape(), parts_.expert_bytes),
      gate_(parts_.gate, parts_.trace->shape().experts, parts_.k),
      logits_(parts_.trace->shape().experts),
      ids_(parts_.trace->recorded_k()),
      weights_(parts_.trace->recorded_k()),
      speculative_(parts_.expert_bytes.size()),
      last_touch_(parts_.trace->shape().experts),
      touch_counts_(parts_.trace->shape().experts) {
  const std::size_t most = std::max(parts_.routing->max_experts(), parts_.k);
  chosen_.reserve(most);
  by_weight_.reserve(parts_.trace->shape().experts);
  order_.reserve(most);
  union_counts_.reserve(parts_.trace->shape().experts);
}

void ExpertSession::begin_pass(const Pass& pass) {
  if (pass.starts_sequence) {
    if (parts_.reset == CacheReset::kSequence) {
      waste_all();
      parts_.cache->reset();
    }
    parts_.routing->begin_sequence(pass.sequence);
  }
  if (pass.phase == Phase::kDecode) ++decoded_tokens_;
}

bool ExpertSession::set_gate(std::size_t token, LayerId layer) {
  const Trace& trace = *parts_.trace;
  if (trace.has_logits()) {
    trace.read_logits(token, layer, logits_);
    gate_.set_logits(logits_, trace.selection_bias(layer));
    return true;
  }
  const std::size_t count = trace.read_ids(token, layer, ids_);
  if (count == 0) return false;
  std::span<const float> weights;
  if (trace.has_weights()) {
    trace.read_weights(token, layer, weights_);
    weights = std::span(weights_).first(count);
  }
  gate_.set_recorded(std::span(ids_).first(count), weights);
  return true;
}

// The cache takes experts by their original weight, whatever order the policy chose them in. On a
// trace without ranks or weights the order is by id.
void ExpertSession::order_by_weight(const Selection& chosen) {
  by_weight_.assign(chosen.ids.begin(), chosen.ids.end());
  if (!knows_order()) {
    std::sort(by_weight_.begin(), by_weight_.end());
    return;
  }
  if (chosen.weights.size() != chosen.ids.size()) return;  // recorded order
  order_.resize(chosen.ids.size());
  std::iota(order_.begin(), order_.end(), 0U);
  // Insertion sort: few elements, mostly in order already, and no memory. Equal weights (they can
  // underflow) keep the order of the logits where there are any.
  for (std::size_t i = 1; i < order_.size(); ++i) {
    const std::uint32_t moving = order_[i];
    std::size_t place = i;
    while (place > 0 && chosen.weights[moving] > chosen.weights[order_[place - 1]]) {
      order_[place] = order_[place - 1];
      --place;
    }
    order_[place] = moving;
  }
  for (std::size_t i = 0; i < order_.size(); ++i) by_weight_[i] = chosen.ids[order_[i]];
}

VisitOutcome ExpertSession::decode(const Pass& pass, LayerId layer) {
  if (set_gate(pass.first, layer)) return route(pass, layer);
  chosen_.clear();  // nothing to repeat
  return {};
}

VisitOutcome ExpertSession::decode(const Pass& pass, LayerId layer, std::span<const float> logits,
                                   std::span<const float> selection_bias) {
  gate_.set_logits(logits, selection_bias);
  return route(pass, layer);
}

VisitOutcome ExpertSession::route(const Pass& pass, LayerId layer) {
  chosen_.clear();
  parts_.routing->route({pass.first, pass.sequence, layer, gate_, pass.phase},
                        parts_.cache->view(layer), chosen_);
  if (chosen_.ids.empty() || chosen_.ids.size() > parts_.routing->max_experts()) {
    throw InvariantError("a routing policy returned more experts than it declared, or none");
  }
  order_by_weight(chosen_);
  return visit_cache(layer);
}

VisitOutcome ExpertSession::repeat(LayerId layer) {
  return chosen_.ids.empty() ? VisitOutcome{} : visit_cache(layer);
}

VisitOutcome ExpertSession::visit_cache(LayerId layer) {
  const EventOutcome outcome = parts_.cache->visit(decoded_tokens_, layer, by_weight_);
  accounting_.count(decoded_tokens_, layer, outcome);
  judge_speculation(layer, outcome);
  return {true, outcome.accesses, outcome.evicted, outcome.number, &gate_, &chosen_};
}

bool ExpertSession::begin_read(ExpertKey key) {
  std::span<const ExpertKey> evicted;
  if (!parts_.cache->begin_read(key, evicted)) return false;
  accounting_.count_speculative(decoded_tokens_, key, evicted);
  count_waste(evicted);
  speculative_[index(key)] = 1;
  ++prefetched_.issued;
  prefetched_.issued_bytes += expert_bytes(key);
  return true;
}

void ExpertSession::judge_speculation(LayerId layer, const EventOutcome& outcome) {
  if (prefetched_.issued == 0) return;
  for (const Access& access : outcome.accesses) {
    const std::size_t key = index(expert_key(layer, access.expert, shape().experts));
    if (speculative_[key] == 0) continue;
    speculative_[key] = 0;
    switch (access.kind) {
      case AccessKind::kHit:
        ++prefetched_.useful;
        break;
      case AccessKind::kLate:
        ++prefetched_.late;
        break;
      case AccessKind::kMiss:  // it had to leave before its turn in this very visit
        prefetched_.wasted_bytes += parts_.expert_bytes[key];
        break;
    }
  }
  count_waste(outcome.evicted);
}

void ExpertSession::waste_all() {
  if (prefetched_.issued == 0) return;
  for (std::size_t key = 0; key < speculative_.size(); ++key) {
    if (speculative_[key] == 0) continue;
    speculative_[key] = 0;
    prefetched_.wasted_bytes += parts_.expert_bytes[key];
  }
}

void ExpertSession::count_waste(std::span<const ExpertKey> evicted) {
  for (const ExpertKey key : evicted) {
    if (speculative_[index(key)] == 0) continue;
    speculative_[index(key)] = 0;
    prefetched_.wasted_bytes += expert_bytes(key);
  }
}

VisitOutcome ExpertSession::prefill(const Pass& pass, LayerId layer) {
  std::fill(touch_counts_.begin(), touch_counts_.end(), 0U);
  std::uint32_t touches = 0;
  for (std::uint32_t token = pass.first; token < pass.first + pass.count; ++token) {
    if (!set_gate(token, layer)) continue;
    by_weight_.assign(gate_.native().ids.begin(), gate_.native().ids.end());
    if (!knows_order()) std::sort(by_weight_.begin(), by_weight_.end());
    for (const ExpertId expert : by_weight_) {
      last_touch_[index(expert)] = touches++;
      ++touch_counts_[index(expert)];
    }
  }
  by_weight_.clear();
  for (std::size_t e = 0; e < touch_counts_.size(); ++e) {
    if (touch_counts_[e] > 0) by_weight_.push_back(static_cast<ExpertId>(e));
  }
  VisitOutcome visit;
  if (by_weight_.empty()) return visit;
  std::sort(by_weight_.begin(), by_weight_.end(), [this](ExpertId a, ExpertId b) {
    return last_touch_[index(a)] < last_touch_[index(b)];
  });
  union_counts_.clear();
  for (const ExpertId expert : by_weight_) union_counts_.push_back(touch_counts_[index(expert)]);
  const EventOutcome outcome = parts_.cache->visit_union(decoded_tokens_, layer, by_weight_);
  accounting_.count(decoded_tokens_, layer, outcome);
  judge_speculation(layer, outcome);
  visit.visited = true;
  visit.accesses = outcome.accesses;
  visit.evicted = outcome.evicted;
  visit.event = outcome.number;
  return visit;
}

}  // namespace moesim
