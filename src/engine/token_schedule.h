// In which order a run walks through a trace: prefill passes and decoded tokens.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "core/ids.h"
#include "trace/trace.h"

namespace moesim {

// kWarm: prompt tokens pass through the cache as one union pass per layer; kSkip: they are left
// out.
enum class PrefillMode : std::uint8_t { kWarm, kSkip };

struct ScheduleOptions {
  std::optional<std::size_t> max_tokens;  // rows of the trace to use
  std::size_t warmup_tokens = 0;          // decoded tokens that warm the cache and are not measured
  PrefillMode prefill = PrefillMode::kWarm;
};

// One decoded token, or one prefill over `count` consecutive prompt tokens of a sequence.
struct Pass {
  std::uint32_t first = 0;  // row of the trace
  std::uint32_t count = 1;
  std::int32_t sequence = 0;
  std::uint32_t position = 0;  // of `first` in its sequence
  Phase phase = Phase::kDecode;
  bool measured = false;         // decode only: after the warm-up
  bool starts_sequence = false;  // the first pass of a sequence
};

struct TokenSchedule {
  std::vector<Pass> passes;
  std::size_t prefill_tokens = 0;
  std::size_t warmup_tokens = 0;
  std::size_t measured_tokens = 0;
};

// Throws UserError (naming `trace.shown()`) when nothing is left to measure.
TokenSchedule make_schedule(const Trace& trace, const ScheduleOptions& options);

}  // namespace moesim
