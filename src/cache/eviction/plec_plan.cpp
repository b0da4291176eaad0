#include "cache/eviction/plec_plan.h"

#include <algorithm>
#include <numeric>

namespace moesim {
namespace {

void greedy_shares(std::span<const std::size_t> demands, std::size_t slots,
                   std::span<std::size_t> shares) {
  for (std::size_t layer = 0; layer < demands.size(); ++layer) {
    shares[layer] = std::min(demands[layer], slots);
    slots -= shares[layer];
  }
}

// Largest remainder, in integers.
void proportional_shares(std::span<const std::size_t> demands, std::size_t slots,
                         std::span<std::size_t> shares) {
  const std::size_t total = std::accumulate(demands.begin(), demands.end(), std::size_t{0});
  slots = std::min(slots, total);
  if (slots == 0) return;
  std::size_t left = slots;
  for (std::size_t layer = 0; layer < demands.size(); ++layer) {
    shares[layer] = demands[layer] * slots / total;
    left -= shares[layer];
  }
  // A layer that has taken its remainder has none any more: each takes one at most.
  for (; left > 0; --left) {
    std::size_t best = demands.size();
    std::size_t largest = 0;
    for (std::size_t layer = 0; layer < demands.size(); ++layer) {
      const bool taken = shares[layer] * total > demands[layer] * slots;
      const std::size_t remainder = taken ? 0 : demands[layer] * slots - shares[layer] * total;
      if (remainder > largest) {
        largest = remainder;
        best = layer;
      }
    }
    ++shares[best];
  }
}

void split_slots(std::span<const std::size_t> demands, std::size_t slots, PlecSplit split,
                 std::span<std::size_t> shares) {
  std::fill(shares.begin(), shares.end(), std::size_t{0});
  if (split == PlecSplit::kGreedy) {
    greedy_shares(demands, slots, shares);
  } else {
    proportional_shares(demands, slots, shares);
  }
}

}  // namespace

std::vector<std::size_t> plec_slots(std::span<const std::size_t> demands, std::size_t slots,
                                    PlecSplit split) {
  std::vector<std::size_t> shares(demands.size());
  split_slots(demands, slots, split, shares);
  return shares;
}

PlecPlan::PlecPlan(const RoutingShape& shape, std::size_t slots, PlecSplit split, bool per_layer)
    : shape_(shape),
      slots_(slots),
      split_(split),
      per_layer_(per_layer),
      states_(shape.layers * shape.experts, State::kNone),
      demands_(shape.layers),
      shares_(shape.layers) {
  order_.reserve(states_.size());
  extra_.reserve(states_.size());
  correction_.missed.reserve(shape.experts);
  correction_.unwanted.reserve(shape.experts);
  changed_.reserve(6 * states_.size());
}

void PlecPlan::set(ExpertKey key, State state) {
  if ((states_[index(key)] == State::kSlot) != (state == State::kSlot)) changed_.push_back(key);
  states_[index(key)] = state;
}

void PlecPlan::begin_step(std::span<const std::vector<ExpertKey>> predicted) {
  for (const ExpertKey key : order_) set(key, State::kNone);
  for (const ExpertKey key : extra_) set(key, State::kNone);
  order_.clear();
  extra_.clear();
  next_ = 0;
  known_layers_ = 0;
  for (std::size_t layer = 0; layer < shape_.layers; ++layer) {
    demands_[layer] = predicted[layer].size();
    order_.insert(order_.end(), predicted[layer].begin(), predicted[layer].end());
  }
  share_out(predicted);
}

void PlecPlan::share_out(std::span<const std::vector<ExpertKey>> predicted) {
  if (per_layer_) {
    for (std::size_t layer = 0; layer < shape_.layers; ++layer) {
      shares_[layer] = std::min(demands_[layer], slots_);
    }
  } else {
    split_slots(demands_, slots_, split_, shares_);
  }
  for (std::size_t layer = 0; layer < shape_.layers; ++layer) {
    for (std::size_t i = 0; i < predicted[layer].size(); ++i) {
      set(predicted[layer][i], i < shares_[layer] ? State::kSlot : State::kWaiting);
    }
  }
}

void PlecPlan::append_planned(std::vector<ExpertKey>& keys) const {
  for (const ExpertKey key : order_) {
    if (has_slot(key)) keys.push_back(key);
  }
}

std::optional<ExpertKey> PlecPlan::compute_done(ExpertKey key) {
  if (!has_slot(key)) return std::nullopt;
  set(key, State::kNone);
  std::erase(extra_, key);
  return refill();
}

std::optional<ExpertKey> PlecPlan::refill() {
  if (per_layer_) return std::nullopt;
  for (; next_ < order_.size(); ++next_) {
    const ExpertKey key = order_[next_];
    const bool to_come = index(layer_of(key, shape_.experts)) >= known_layers_;
    if (states_[index(key)] != State::kWaiting || !to_come) continue;
    set(key, State::kSlot);
    return key;
  }
  return std::nullopt;
}

// Of the experts that are still to come, the last one in order goes back to waiting.
bool PlecPlan::take_last_slot() {
  for (std::size_t i = order_.size(); i-- > 0;) {
    if (index(layer_of(order_[i], shape_.experts)) < known_layers_) return false;
    if (!has_slot(order_[i])) continue;
    set(order_[i], State::kWaiting);
    next_ = std::min(next_, i);
    return true;
  }
  return false;
}

// Without word of each computation (a replay without time), a layer is over when the next begins.
void PlecPlan::end_layers_before(std::size_t layer) {
  while (!extra_.empty()) compute_done(extra_.back());
  for (const ExpertKey key : order_) {
    if (index(layer_of(key, shape_.experts)) >= layer) return;
    compute_done(key);
  }
}

const PlecPlan::Correction& PlecPlan::route_known(LayerId layer,
                                                  std::span<const ExpertKey> routed) {
  correction_.missed.clear();
  correction_.unwanted.clear();
  end_layers_before(index(layer));
  known_layers_ = index(layer) + 1;
  std::size_t free = 0;
  for (const ExpertKey key : order_) {
    if (layer_of(key, shape_.experts) != layer) continue;
    if (std::find(routed.begin(), routed.end(), key) != routed.end()) continue;
    correction_.unwanted.push_back(key);
    free += has_slot(key) ? 1 : 0;
    set(key, State::kNone);
  }
  for (const ExpertKey key : routed) {
    if (has_slot(key)) continue;
    if (states_[index(key)] == State::kNone) correction_.missed.push_back(key);
    if (free > 0) {
      --free;
    } else if (per_layer_ || !take_last_slot()) {
      continue;
    }
    if (states_[index(key)] == State::kNone) extra_.push_back(key);
    set(key, State::kSlot);
  }
  for (; free > 0 && refill(); --free) {
  }
  return correction_;
}

}  // namespace moesim
