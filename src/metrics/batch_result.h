// What a run with several sequences in lock-step reports beside the metrics of every run.
#pragma once

#include <cstdint>

#include "engine/run_plan.h"
#include "metrics/run_result.h"

namespace moesim {

// `distinct_experts`: accesses of the measured passes. REQUIRES: the configuration has a batch.
BatchResult batch_result(const RunPlan& plan, std::uint64_t distinct_experts);

}  // namespace moesim
