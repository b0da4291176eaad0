#include "engine/expert_session.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "core/errors.h"

namespace moesim {

namespace {

std::optional<MixedPrecision> mixed_precision(const SessionParts& parts) {
  if (parts.on_miss.policy == MissPolicy::kFull) return std::nullopt;
  return MixedPrecision(parts.on_miss, parts.trace->shape(), parts.expert_bytes, parts.low_bytes);
}

}  // namespace

ExpertSession::ExpertSession(SessionParts parts)
    : parts_(std::move(parts)),
      mixed_(mixed_precision(parts_)),
      accounting_(parts_.cache->options().shape,
                  mixed_ ? mixed_->item_bytes() : parts_.expert_bytes),
      gate_(parts_.gate, parts_.trace->shape().experts, parts_.k),
      reader_(*parts_.trace),
      speculative_(parts_.expert_bytes.size()),
      last_touch_(parts_.trace->shape().experts),
      touch_counts_(parts_.trace->shape().experts),
      first_user_(parts_.trace->shape().experts) {
  const std::size_t most = std::max(parts_.routing->max_experts(), parts_.k);
  chosen_.reserve(most);
  by_weight_.reserve(parts_.trace->shape().experts);
  order_.reserve(most);
  ordered_weights_.reserve(most);
  union_counts_.reserve(parts_.trace->shape().experts);
  lanes_.reserve(parts_.lanes);
  for (std::size_t lane = 0; lane < parts_.lanes; ++lane) {
    lanes_.push_back({CellReader(*parts_.trace), gate_, {}});
    lanes_.back().chosen.reserve(most);
  }
  routed_.reserve(parts_.tokens_in_pass);
}

void ExpertSession::begin_pass(const Pass& pass) {
  if (pass.starts_sequence) {
    if (parts_.reset == CacheReset::kSequence) {
      waste_all();
      parts_.cache->reset();
    }
    if (pass.tokens.empty()) parts_.routing->begin_sequence(pass.sequence);
  }
  for (const PassToken& token : pass.tokens) {
    if (token.starts_sequence) parts_.routing->begin_sequence(token.sequence);
  }
  if (pass.phase == Phase::kDecode) ++decoded_tokens_;
}

// The cache takes experts by their original weight, whatever order the policy chose them in. On a
// trace without ranks or weights the order is by id.
void ExpertSession::order_by_weight(const Gate& gate, const Selection& chosen) {
  by_weight_.assign(chosen.ids.begin(), chosen.ids.end());
  if (!knows_order(gate)) {
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
  if (!lanes_.empty()) return decode_batch(pass, layer);
  if (reader_.set(gate_, pass.first, layer)) return route(pass, layer);
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
  const RouterVisit router_visit{pass.first, pass.sequence, layer, gate_, pass.phase};
  const ResidencyView view = view_of(layer);
  parts_.routing->route(router_visit, view, chosen_);
  check_selection(chosen_);
  const std::optional<double> divergence = parts_.routing->bias_divergence(router_visit, view);
  order_by_weight(gate_, chosen_);
  VisitOutcome visit = mixed_ ? visit_mixed(layer) : visit_cache(layer);
  visit.gate = &gate_;
  visit.executed = &chosen_;
  visit.bias_divergence = divergence;
  return visit;
}

ResidencyView ExpertSession::view_of(LayerId layer) const {
  return mixed_ ? parts_.cache->view(layer, shape().experts) : parts_.cache->view(layer);
}

void ExpertSession::check_selection(const Selection& chosen) const {
  if (chosen.ids.empty() || chosen.ids.size() > parts_.routing->max_experts()) {
    throw InvariantError("a routing policy returned more experts than it declared, or none");
  }
}

VisitOutcome ExpertSession::repeat(LayerId layer) {
  if (chosen_.ids.empty()) return {};
  order_by_weight(gate_, chosen_);  // weights.on_miss may have skipped some
  VisitOutcome visit = mixed_ ? visit_mixed(layer) : visit_cache(layer);
  visit.gate = &gate_;
  visit.executed = &chosen_;
  visit.is_repeat = true;
  return visit;
}

VisitOutcome ExpertSession::visit_cache(LayerId layer) {
  const EventOutcome outcome = parts_.cache->visit(decoded_tokens_, layer, by_weight_);
  accounting_.count(decoded_tokens_, layer, outcome);
  judge_speculation(layer, outcome);
  VisitOutcome visit;
  visit.visited = true;
  visit.accesses = outcome.accesses;
  visit.evicted = outcome.evicted;
  visit.event = outcome.number;
  return visit;
}

VisitOutcome ExpertSession::visit_mixed(LayerId layer) {
  if (chosen_.weights.size() != chosen_.ids.size()) {
    throw InvariantError("the class of a miss needs the weights of the selected experts");
  }
  ordered_weights_.clear();
  for (const std::uint32_t place : order_) ordered_weights_.push_back(chosen_.weights[place]);
  mixed_->decide(*parts_.cache, layer, by_weight_, ordered_weights_);
  if (mixed_->skipped() > 0) {
    // What is skipped is no longer selected; the weights of the others stay as they are.
    const std::span<const ExpertId> runs = mixed_->experts();
    std::size_t kept = 0;
    for (std::size_t i = 0; i < chosen_.ids.size(); ++i) {
      if (std::find(runs.begin(), runs.end(), chosen_.ids[i]) == runs.end()) continue;
      chosen_.ids[kept] = chosen_.ids[i];
      chosen_.weights[kept++] = chosen_.weights[i];
    }
    chosen_.ids.resize(kept);
    chosen_.weights.resize(kept);
  }
  return settle_mixed(layer, parts_.cache->visit(decoded_tokens_, layer, mixed_->items()));
}

VisitOutcome ExpertSession::settle_mixed(LayerId layer, const EventOutcome& outcome) {
  mixed_->settle(layer, outcome);
  accounting_.count(decoded_tokens_, layer, outcome);
  accounting_.recount(outcome.accesses, mixed_->accesses());
  VisitOutcome visit;
  visit.visited = true;
  visit.accesses = mixed_->accesses();
  visit.evicted = outcome.evicted;
  visit.event = outcome.number;
  visit.runs = mixed_->runs();
  visit.low_precision = mixed_->low();
  visit.skipped = mixed_->skipped();
  return visit;
}

bool ExpertSession::begin_read(ExpertKey key) {
  std::span<const ExpertKey> evicted;
  if (!parts_.cache->begin_read(key, evicted)) return false;
  evicted_for_read_ = evicted;
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
        prefetched_.useful_bytes += parts_.expert_bytes[key];
        break;
      case AccessKind::kLate:
        ++prefetched_.late;
        prefetched_.late_bytes += parts_.expert_bytes[key];
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

void ExpertSession::begin_union() {
  std::fill(touch_counts_.begin(), touch_counts_.end(), 0U);
  touches_ = 0;
}

void ExpertSession::touch(ExpertId expert, std::size_t user) {
  if (touch_counts_[index(expert)]++ == 0) first_user_[index(expert)] = user;
  last_touch_[index(expert)] = touches_++;
}

void ExpertSession::end_union() {
  by_weight_.clear();
  for (std::size_t e = 0; e < touch_counts_.size(); ++e) {
    if (touch_counts_[e] > 0) by_weight_.push_back(static_cast<ExpertId>(e));
  }
  std::sort(by_weight_.begin(), by_weight_.end(), [this](ExpertId a, ExpertId b) {
    return last_touch_[index(a)] < last_touch_[index(b)];
  });
  union_counts_.clear();
  for (const ExpertId expert : by_weight_) union_counts_.push_back(touch_counts_[index(expert)]);
}

VisitOutcome ExpertSession::prefill(const Pass& pass, LayerId layer) {
  begin_union();
  for (std::uint32_t token = pass.first; token < pass.first + pass.count; ++token) {
    if (!reader_.set(gate_, token, layer)) continue;
    by_weight_.assign(gate_.native().ids.begin(), gate_.native().ids.end());
    if (!knows_order(gate_)) std::sort(by_weight_.begin(), by_weight_.end());
    for (const ExpertId expert : by_weight_) touch(expert, 0);
  }
  end_union();
  VisitOutcome visit;
  if (by_weight_.empty()) return visit;
  if (mixed_) {
    mixed_->demand_full(by_weight_);
    visit = settle_mixed(layer, parts_.cache->visit_union(decoded_tokens_, layer, mixed_->items()));
    visit.is_union = true;
    visit.served = union_counts_;
    return visit;
  }
  const EventOutcome outcome = parts_.cache->visit_union(decoded_tokens_, layer, by_weight_);
  accounting_.count(decoded_tokens_, layer, outcome);
  judge_speculation(layer, outcome);
  visit.visited = true;
  visit.accesses = outcome.accesses;
  visit.evicted = outcome.evicted;
  visit.event = outcome.number;
  visit.is_union = true;
  visit.served = union_counts_;
  return visit;
}

}  // namespace moesim
