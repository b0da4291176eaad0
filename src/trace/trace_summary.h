// What a trace holds, as data: the content of `sim trace inspect --json`.
#pragma once

#include <cstddef>
#include <vector>

#include "config/json_file.h"
#include "trace/trace.h"

namespace moesim {

struct TokenCounts {
  std::size_t prefill = 0;
  std::size_t decode = 0;
  std::size_t sequences = 0;
  std::size_t shortest = 0;  // tokens of the shortest sequence
  std::size_t longest = 0;
  std::size_t absent_visits = 0;  // (token, layer) cells without ids
};

TokenCounts count_tokens(const Trace& trace);

// Shape, form, tensors, metadata and locality of the trace; `k` as in DecodeVisits::of(), which
// also gives the errors.
Json trace_summary(const Trace& trace, std::size_t k);

}  // namespace moesim
