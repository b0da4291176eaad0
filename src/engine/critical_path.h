// Walks a finished pass back from its end: every job and read names what finished last before it,
// the task it depended on or, where it had to queue, the one before it on the same resource.
#pragma once

#include "engine/compute_agent.h"
#include "engine/run_observer.h"
#include "engine/store_path.h"

namespace moesim {

// The time between `start` and the end of job `last`, divided by what it was spent on. The parts
// sum to that time exactly.
Durations<kPathParts> critical_path(const ComputeAgent& compute, const StorePath& store,
                                    std::uint32_t last, TimePoint start);

}  // namespace moesim
