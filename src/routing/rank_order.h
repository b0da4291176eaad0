// Sorts a layer's experts by a score: what policies use whose choice may reach down the whole row.
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

#include "core/ids.h"

namespace moesim {

class RankOrder {
 public:
  explicit RankOrder(std::size_t experts) { order_.reserve(experts); }

  // The best `most` experts (all where there are fewer), best first, equal scores by lower id;
  // those at minus infinity, which group-limited selection excluded, are left out. `scores`:
  // [experts], no NaN. Valid until the next call.
  std::span<const ExpertId> best(std::span<const double> scores, std::size_t most) {
    order_.clear();
    for (std::size_t e = 0; e < scores.size(); ++e) {
      if (scores[e] > -std::numeric_limits<double>::infinity()) order_.push_back(ExpertId(e));
    }
    const std::size_t count = std::min(most, order_.size());
    const auto before = [&](ExpertId a, ExpertId b) {
      const double left = scores[index(a)];
      const double right = scores[index(b)];
      return left != right ? left > right : a < b;
    };
    std::partial_sort(order_.begin(), order_.begin() + static_cast<std::ptrdiff_t>(count),
                      order_.end(), before);
    return std::span(order_).first(count);
  }

 private:
  std::vector<ExpertId> order_;
};

}  // namespace moesim
