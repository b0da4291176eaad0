// Weights that do not follow the gate's own rule: routing probabilities as they are, or shares.
#pragma once

#include <cstddef>
#include <span>

#include "routing/gate.h"
#include "routing/selection.h"

namespace moesim {

// Divides by the sum; equal shares where every value has underflowed.
inline void to_shares(std::span<double> values) {
  double sum = 0;
  for (const double value : values) sum += value;
  for (double& value : values) {
    value = sum > 0 ? value / sum : 1.0 / static_cast<double>(values.size());
  }
}

// WeightRule::kProbabilities. REQUIRES: gate.has_logits().
inline void weigh_by_probability(Gate& gate, Selection& chosen) {
  chosen.weights.clear();
  const std::span<const double> probabilities = gate.probabilities();
  for (const ExpertId id : chosen.ids) chosen.weights.push_back(probabilities[index(id)]);
}

// WeightRule::kRenormalised. REQUIRES: gate.has_logits().
inline void weigh_by_share(Gate& gate, Selection& chosen) {
  chosen.weights.clear();
  for (const ExpertId id : chosen.ids) chosen.weights.push_back(gate.relative_probability(id));
  to_shares(chosen.weights);
}

}  // namespace moesim
