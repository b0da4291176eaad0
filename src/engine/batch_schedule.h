// The passes of several sequences that decode in lock-step. Made before the run: who shares a pass
// depends on the trace alone.
#pragma once

#include <functional>

#include "engine/token_schedule.h"
#include "engine/token_scheduler.h"

namespace moesim {

// Appends the native routing path of the token in this row of the trace.
using AppendPath = std::function<void(std::uint32_t row, ExpertPaths& paths)>;

// Sequences of `singles` that decode a token.
std::size_t decoding_sequences(const TokenSchedule& singles);

// Rearranges the passes of make_schedule(): `batch.size` sequences (twice as many with a token
// scheduler) decode one token each per step, in order of their first row. One that ends makes place
// for the next of the trace; at the end the batch shrinks. A prefill stays a pass of its own,
// before the step in which its sequence goes on. Warm-up is counted in whole steps: a step is
// measured when `warmup_tokens` have been decoded before it. `bits` and `append` are for the token
// scheduler: the layers * experts of a path, and where it is from. REQUIRES: batch.size > 1.
// Nothing may be left to measure: the caller checks.
TokenSchedule batch_schedule(const TokenSchedule& singles, const BatchOptions& batch,
                             std::size_t warmup_tokens, std::size_t bits, const AppendPath& append);

}  // namespace moesim
