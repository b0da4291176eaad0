// The order of a selection by its weights, and their ratios: what pruning rules judge by.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "routing/selection.h"

namespace moesim {

// A selection's places in the order of its weights, which is not the order of selection where a
// bias took part in it. Equal weights keep their order.
class WeightRanks {
 public:
  explicit WeightRanks(std::size_t k) { order_.reserve(k); }

  // Valid until the next call. REQUIRES: selection.weights is not empty.
  std::span<const std::size_t> by_weight(const Selection& selection) {
    order_.clear();
    for (std::size_t i = 0; i < selection.ids.size(); ++i) {
      order_.push_back(i);
      std::size_t place = i;
      for (; place > 0 && selection.weights[i] > selection.weights[order_[place - 1]]; --place) {
        order_[place] = order_[place - 1];
      }
      order_[place] = i;
    }
    return order_;
  }

 private:
  std::vector<std::size_t> order_;
};

// 1 where the best weight is 0: then all are alike.
inline double weight_ratio(double weight, double best) { return best > 0 ? weight / best : 1.0; }

}  // namespace moesim
