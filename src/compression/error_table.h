// How much an expert loses at each bit-width: the reconstruction error eps of PMQ.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "config/section.h"
#include "core/ids.h"

namespace moesim {

struct ErrorTable {
  std::vector<double> values;  // [layers, experts, bit_set]
  std::string source;          // for people
};

// eps(1) = 2.92, eps(2) = 2.48, eps(3) = 1 for every expert: the median ratios of the table that
// MC-MoE ships for Mixtral-8x7B (routing_and_compression.md, section 1.1), for traces whose weights
// nobody has measured. Throws UserError, naming --bit-set, for other bit-widths.
ErrorTable stand_in_errors(const RoutingShape& shape, const std::vector<std::uint32_t>& bit_set);

// A measured table (docs/compression.md): "bits" names the columns, of which those of `bit_set` are
// taken; "errors" is [layers][experts][bits], or [experts][bits] for every layer alike. Throws
// UserError with file and pointer.
ErrorTable read_errors(Section section, const RoutingShape& shape,
                       const std::vector<std::uint32_t>& bit_set);

}  // namespace moesim
