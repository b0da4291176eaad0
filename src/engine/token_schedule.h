// In which order a run walks through a trace: prefill passes and decoded tokens.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/ids.h"
#include "trace/trace.h"

namespace moesim {

// kWarm: prompt tokens pass through the cache as one union pass per layer; kSkip: they are left
// out.
enum class PrefillMode : std::uint8_t { kWarm, kSkip };

// Who shares a pass where several sequences decode in lock-step. kNone: neighbours in the trace.
// kExpertFlow: twice as many sequences are under way, and at each step their tokens are split anew
// into two passes (engine/token_scheduler.h).
enum class TokenSchedulerKind : std::uint8_t { kNone, kExpertFlow };

struct BatchOptions {
  std::size_t size = 1;  // sequences that decode one token each in a pass
  TokenSchedulerKind scheduler = TokenSchedulerKind::kNone;
};

struct ScheduleOptions {
  std::optional<std::size_t> max_tokens;  // rows of the trace to use
  std::size_t warmup_tokens = 0;          // decoded tokens that warm the cache and are not measured
  PrefillMode prefill = PrefillMode::kWarm;
  BatchOptions batch;
};

// One token of a pass that decodes several sequences.
struct PassToken {
  std::uint32_t row = 0;  // of the trace
  std::int32_t sequence = 0;
  std::uint32_t position = 0;  // in its sequence
  std::uint32_t lane = 0;      // place among the sequences under way, for as long as it is
  bool starts_sequence = false;
  bool moved = false;  // its key-value cache must be copied into this pass's batch first
};

// One decoded token, one prefill over `count` consecutive prompt tokens of a sequence, or one
// decoded token of each of several sequences.
struct Pass {
  std::uint32_t first = 0;  // row of the trace
  std::uint32_t count = 1;
  std::int32_t sequence = 0;
  std::uint32_t position = 0;  // of `first` in its sequence
  Phase phase = Phase::kDecode;
  bool measured = false;         // decode only: after the warm-up
  bool starts_sequence = false;  // the first pass of a sequence
  // The rest is for runs with batches.
  std::uint32_t lane = 0;  // of a prefill's sequence
  bool ends_step = true;   // the last of the passes that give each sequence one token
  std::span<const PassToken> tokens = {};  // by row; empty: the one token at `first`, or a prefill

  [[nodiscard]] std::size_t decoded_tokens() const {
    if (phase == Phase::kPrefill) return 0;
    return tokens.empty() ? 1 : tokens.size();
  }
};

// What the token scheduler achieved, over the measured steps. Objective: distinct experts of the
// native routing, summed over layers and passes.
struct SchedulerOutcome {
  std::uint64_t objective_before = 0;  // had neighbours in the trace shared a pass
  std::uint64_t objective_after = 0;
  std::uint64_t steps = 0;
  std::uint64_t changed_steps = 0;    // that did not keep neighbours together
  std::uint64_t moved_sequences = 0;  // sequences that changed to the other batch, over the steps
};

// Passes refer to batch_tokens: a schedule can be moved, not copied.
struct TokenSchedule {
  TokenSchedule() = default;
  TokenSchedule(TokenSchedule&&) = default;
  TokenSchedule& operator=(TokenSchedule&&) = default;

  std::vector<Pass> passes;
  std::vector<PassToken> batch_tokens;
  std::size_t lanes = 1;           // most sequences under way at once
  std::size_t tokens_in_pass = 1;  // most that one pass decodes
  std::optional<SchedulerOutcome> scheduler;
  std::size_t prefill_tokens = 0;
  std::size_t warmup_tokens = 0;
  std::size_t measured_tokens = 0;
};

// One sequence after the other, one decoded token a pass (`options.batch` is for batch_schedule).
// Throws UserError (naming `trace.shown()`) when nothing is left to measure.
TokenSchedule make_schedule(const Trace& trace, const ScheduleOptions& options);

}  // namespace moesim
