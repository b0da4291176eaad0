// The thresholds of online dynamic pruning: as configured, or medians of a trace.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "config/section.h"
#include "routing/routing_policy.h"
#include "routing/selection.h"

namespace moesim {

// A selection's places in the order of its weights, which is not the order of selection where a
// bias took part in it. Equal weights keep their order.
class WeightRanks {
 public:
  explicit WeightRanks(std::size_t k) { order_.reserve(k); }
  // Valid until the next call. REQUIRES: selection.weights is not empty.
  std::span<const std::size_t> by_weight(const Selection& selection);

 private:
  std::vector<std::size_t> order_;
};

// 1 where the best weight is 0: then all are alike.
inline double weight_ratio(double weight, double best) { return best > 0 ? weight / best : 1.0; }

// [layers, k - 1]: the threshold of rank r >= 1 is element r - 1 of its layer. Reads `mu` and
// `thresholds`. Throws UserError for a gate without meaningful ratios (F), for both keys at once,
// for an array of the wrong length, a number outside [0, 1], and where medians are asked for and
// the trace has neither router_logits nor topk_weights.
std::vector<double> read_odp_thresholds(Section& config, const RoutingContext& context);

}  // namespace moesim
