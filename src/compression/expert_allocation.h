// Bits of every routed expert, as `sim compress` writes them and `weights.allocation` takes them.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "config/section.h"
#include "core/ids.h"

namespace moesim {

inline constexpr const char* kAllocationSchema = "moesim.allocation/1";

struct ExpertAllocation {
  std::size_t layers = 0;
  std::size_t experts = 0;
  std::vector<double> bits;  // [layers, experts], per weight, scales left out
  double overhead_bits = 0;  // scales and zero points, per weight
  std::string place;         // "FILE: /pointer" of the bits, for messages
  std::string model = {};    // that it was made for; "" where it does not say

  [[nodiscard]] double mean_bits() const;  // scales left out
  // Throws UserError, naming file and pointer, where the shape is another. `whose` tells what the
  // shape is that of.
  void require(const RoutingShape& shape, const std::string& whose) const;
};

// Reads "bits" ([layers][experts], numbers in [0.5, 32]) and "overhead_bits" (default 0); what else
// `sim compress` writes is passed over, an unknown key refused. Throws UserError.
ExpertAllocation read_allocation(Section section);

}  // namespace moesim
