// The experts that serve one token at one layer.
#pragma once

#include <vector>

#include "core/ids.h"

namespace moesim {

// Distinct experts in the order of the policy that chose them, and the weights of their outputs.
// The vectors keep their memory between visits.
struct Selection {
  std::vector<ExpertId> ids;
  std::vector<double> weights;  // same order; empty where the trace has none

  void clear() {
    ids.clear();
    weights.clear();
  }
  void reserve(std::size_t experts) {
    ids.reserve(experts);
    weights.reserve(experts);
  }
};

}  // namespace moesim
