// What a run with several sequences in lock-step reports beside the metrics of every run.
#pragma once

#include <cstdint>

#include "engine/run_plan.h"
#include "metrics/run_result.h"

namespace moesim {

// `distinct_experts`: accesses of the measured passes. REQUIRES: the configuration has a batch.
BatchResult batch_result(const RunPlan& plan, std::uint64_t distinct_experts);

// The most that the key-value caches of the sequences under way take together, over the passes of
// the schedule. A sequence is under way from its first pass to its last.
std::uint64_t kv_peak_bytes(const TokenSchedule& schedule, const TaskCosts& costs);

}  // namespace moesim
