// Walks over the decode cells of a trace with a gate, for policies that calibrate themselves on it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include "routing/gate.h"
#include "routing/routing_policy.h"
#include "trace/trace.h"

namespace moesim {

class TraceCells {
 public:
  // REQUIRES: the trace has router_logits or topk_ids; it outlives this object.
  TraceCells(const Trace& trace, const RoutingContext& context)
      : trace_(trace),
        gate_(context.gate, context.shape.experts, context.k),
        logits_(trace.has_logits() ? context.shape.experts : 0),
        ids_(trace.recorded_k()),
        weights_(trace.has_weights() ? trace.recorded_k() : 0) {}

  // Calls visited(gate) for each decode token that visits the layer, tokens in order.
  template <class Visited>
  void for_each(LayerId layer, Visited&& visited) {
    for (std::size_t token = 0; token < trace_.shape().tokens; ++token) {
      if (trace_.phase(token) == Phase::kDecode && set(token, layer)) visited(gate_);
    }
  }

 private:
  // False where the token does not visit the layer.
  bool set(std::size_t token, LayerId layer) {
    if (trace_.has_logits()) {
      trace_.read_logits(token, layer, logits_);
      gate_.set_logits(logits_, trace_.selection_bias(layer));
      return true;
    }
    const std::size_t count = trace_.read_ids(token, layer, ids_);
    if (trace_.has_weights()) trace_.read_weights(token, layer, weights_);
    gate_.set_recorded(std::span(ids_).first(count),
                       std::span(weights_).first(std::min(count, weights_.size())));
    return count > 0;
  }

  const Trace& trace_;
  Gate gate_;
  std::vector<float> logits_;   // [experts]
  std::vector<ExpertId> ids_;   // [recorded k]
  std::vector<float> weights_;  // [recorded k], empty where there are none
};

// Of an even count the mean of the two middle values, so that half of them lie below it; `of_none`
// where there are no values. Reorders them.
inline double median(std::vector<double>& values, double of_none) {
  if (values.empty()) return of_none;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2 == 1) return *middle;
  return (*middle + *std::max_element(values.begin(), middle)) / 2;
}

}  // namespace moesim
