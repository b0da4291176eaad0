// When the experts of each layer ran last, as a routing policy sees it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "cache/residency_view.h"
#include "core/ids.h"
#include "routing/selection.h"

namespace moesim {

// Counted from the visits that are noted. The experts of one visit count by weight, the largest
// first, which is the order that a cache with touch order "descending" touches them in.
class Recency {
 public:
  Recency(std::size_t layers, std::size_t experts) : experts_(experts), ran_(layers * experts, 0) {
    order_.reserve(experts);
  }

  // scores[e] of every resident: its place in the order of recency, 1 for the most recent, which is
  // the score of the eviction policy lru. Residents that no visit has run yet come last, by id.
  void score(const ResidencyView& residency, std::span<double> scores) {
    const std::uint64_t* const ran = &ran_[index(residency.layer()) * experts_];
    order_.clear();
    for (std::size_t e = 0; e < experts_; ++e) {
      if (residency.resident(ExpertId(e))) order_.push_back(ExpertId(e));
    }
    std::sort(order_.begin(), order_.end(), [ran](ExpertId a, ExpertId b) {
      const std::uint64_t left = ran[index(a)];
      const std::uint64_t right = ran[index(b)];
      return left != right ? left > right : a < b;
    });
    for (std::size_t i = 0; i < order_.size(); ++i) {
      scores[index(order_[i])] = static_cast<double>(i + 1);
    }
  }

  // `by_weight`: the places of `chosen`, largest weight first.
  void note(LayerId layer, const Selection& chosen, std::span<const std::size_t> by_weight) {
    for (const std::size_t i : by_weight) {
      ran_[index(layer) * experts_ + index(chosen.ids[i])] = ++clock_;
    }
  }

 private:
  std::size_t experts_;
  std::vector<std::uint64_t> ran_;  // [layers, experts]; 0 = never
  std::vector<ExpertId> order_;
  std::uint64_t clock_ = 0;
};

}  // namespace moesim
