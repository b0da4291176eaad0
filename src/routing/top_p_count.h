// How many experts top-p routing runs (arXiv 2403.07652).
#pragma once

#include <cstddef>
#include <span>

#include "core/ids.h"

namespace moesim {

// The first experts of `order` whose probabilities add up to more than `mass`, the one that crosses
// it included: 1 + #{j : p_1 + ... + p_j <= mass}, but at least `least`. All of `order` where its
// probabilities never get there and for a mass of 1 or more, which rounding must not decide.
inline std::size_t top_p_count(std::span<const ExpertId> order,
                               std::span<const double> probabilities, double mass,
                               std::size_t least) {
  if (mass >= 1) return order.size();
  double sum = 0;
  std::size_t count = 0;
  while (count < order.size() && (count < least || sum <= mass)) {
    sum += probabilities[index(order[count])];
    ++count;
  }
  return count;
}

}  // namespace moesim
