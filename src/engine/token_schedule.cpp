#include "engine/token_schedule.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/errors.h"

namespace moesim {

TokenSchedule make_schedule(const Trace& trace, const ScheduleOptions& options) {
  TokenSchedule schedule;
  const std::size_t tokens =
      std::min(trace.shape().tokens, options.max_tokens.value_or(trace.shape().tokens));
  std::size_t decoded = 0;
  std::uint32_t position = 0;
  bool fresh = false;  // no pass of this sequence yet
  for (std::size_t token = 0; token < tokens; ++token) {
    const std::int32_t sequence = trace.sequence(token);
    const bool starts = token == 0 || trace.sequence(token - 1) != sequence;
    if (starts) {
      position = 0;
      fresh = true;
    }
    const Phase phase = trace.phase(token);
    const auto row = static_cast<std::uint32_t>(token);
    if (phase == Phase::kDecode) {
      const bool measured = decoded++ >= options.warmup_tokens;
      ++(measured ? schedule.measured_tokens : schedule.warmup_tokens);
      schedule.passes.push_back(
          {row, 1, sequence, position, phase, measured, std::exchange(fresh, false)});
    } else if (options.prefill == PrefillMode::kWarm) {
      ++schedule.prefill_tokens;
      Pass* last = schedule.passes.empty() ? nullptr : &schedule.passes.back();
      const bool continues = !starts && last != nullptr && last->phase == Phase::kPrefill &&
                             last->first + last->count == row;
      if (continues) {
        ++last->count;
      } else {
        schedule.passes.push_back(
            {row, 1, sequence, position, phase, false, std::exchange(fresh, false)});
      }
    }
    ++position;
  }
  if (schedule.measured_tokens == 0) {
    throw user_error(
        trace.shown(),
        fmt::format("expected decoded tokens to measure, got {} tokens: {} of prefill, "
                    "{} of warm-up",
                    tokens, schedule.prefill_tokens, schedule.warmup_tokens));
  }
  return schedule;
}

}  // namespace moesim
