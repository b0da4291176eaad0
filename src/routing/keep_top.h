// The parameter keep_top, J of arXiv 2412.00099: how many of the best experts run whatever the
// cache holds. Shared by the policies of that paper.
#pragma once

#include <algorithm>
#include <cstddef>

#include "config/registry.h"

namespace moesim {

inline const Parameter kKeepTop{
    "keep_top", nullptr,  "best experts that always run; k = top_k; null: 2, but less than k",
    "integer",  "[0, k]", "J of arXiv 2412.00099"};

// The paper takes 2 for models with many small experts and 1 for those with k = 2 (reference,
// section 1.3). Throws UserError for more than k.
inline std::size_t read_keep_top(Section& config, std::size_t k) {
  return config.integer_or("keep_top", std::min<std::size_t>(2, k - 1), 0, k);
}

}  // namespace moesim
