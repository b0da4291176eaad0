// Routing by other logits than the recorded ones: what a policy that intervenes in the router's
// output shares with others of its kind. Selection, groups, selection bias and weights are the
// model's own, of the altered logits.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "routing/gate.h"
#include "routing/routing_policy.h"
#include "routing/selection.h"

namespace moesim {

class AlteredLogits {
 public:
  explicit AlteredLogits(const RoutingContext& context)
      : gate_(context.gate, context.shape.experts, context.k), logits_(context.shape.experts) {}

  // Starts from the visit's logits; the caller alters what is returned, [experts].
  std::span<float> start(const Gate& original) {
    std::copy(original.logits().begin(), original.logits().end(), logits_.begin());
    return logits_;
  }
  // The model's own selection and weights on the altered logits.
  void select(const Gate& original, Selection& chosen) {
    gate_.set_logits(logits_, original.selection_bias());
    chosen = gate_.native();
  }
  [[nodiscard]] std::span<const float> logits() const { return logits_; }

  // KL(softmax z || softmax z') = sum p (z - z') + ln sum e^z' - ln sum e^z.
  // REQUIRES: `original` is set to the visit that was started last.
  [[nodiscard]] double divergence(const Gate& original) const {
    const std::span<const float> from = original.logits();
    const double largest = *std::max_element(from.begin(), from.end());
    const double largest_altered = *std::max_element(logits_.begin(), logits_.end());
    double sum = 0;
    double sum_altered = 0;
    double shift = 0;
    for (std::size_t e = 0; e < logits_.size(); ++e) {
      const double z = from[e];
      const double altered = logits_[e];
      const double mass = std::exp(z - largest);
      sum += mass;
      sum_altered += std::exp(altered - largest_altered);
      shift += mass * (z - altered);
    }
    const double divergence =
        shift / sum + (largest_altered + std::log(sum_altered)) - (largest + std::log(sum));
    return std::max(divergence, 0.0);  // rounding
  }

 private:
  Gate gate_;
  std::vector<float> logits_;  // [experts]
};

}  // namespace moesim
