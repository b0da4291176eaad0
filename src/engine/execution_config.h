// The section `execution` of a configuration: overlap, lanes and threads, layout, read path,
// batches, and through compute_options.h clock, heat and agents.
#pragma once

#include <optional>

#include "config/section.h"
#include "engine/task_costs.h"
#include "engine/token_schedule.h"
#include "hardware/device.h"

namespace moesim {

// Reads the section, with what the device knows as the default; batch size and scheduler go into
// `batch`, what is in force into `resolved`, the section's place in the resolved configuration.
// Throws UserError.
ExecutionOptions read_execution(Section& root, const std::optional<Device>& device,
                                BatchOptions& batch, Json& resolved);

// Makes the device of a run whose misses come by page faults: pages land where they are used, and
// the fault is all there is to admitting them. Throws UserError where the run would read ahead.
// REQUIRES: read_execution() has returned ReadPath::kMmap for this device.
void read_by_page_faults(Device& device, const ExecutionOptions& execution,
                         const Section& prefetch);

}  // namespace moesim
