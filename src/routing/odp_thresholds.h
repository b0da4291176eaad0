// The thresholds of online dynamic pruning: as configured, as published, or medians of a trace.
#pragma once

#include <cstddef>
#include <vector>

#include "config/section.h"
#include "routing/routing_policy.h"

namespace moesim {

// [layers, k - 1]: the threshold of rank r >= 1 is element r - 1 of its layer; 0, which drops
// nothing, in layers outside `blocks`. Reads `mu`, `thresholds` and `blocks`. Throws UserError for
// a gate without meaningful ratios (F), for both mu and thresholds, for an array of the wrong
// length, a number outside [0, 1], published thresholds or block sets with another shape than
// theirs, a layer that is not there, and where medians are asked for and the trace has neither
// router_logits nor topk_weights.
std::vector<double> read_odp_thresholds(Section& config, const RoutingContext& context);

}  // namespace moesim
