// The keys of `execution` about what computes and how fast: clock, heat, agents.
#pragma once

#include <optional>

#include "config/section.h"
#include "engine/task_costs.h"
#include "hardware/device.h"

namespace moesim {

// Reads clock_ghz, thermal and agents of `section` (none: no such section in the configuration)
// into `execution`, with what the device knows as the default, and writes what is in force to
// `resolved`, the section's place in the resolved configuration. `root`: for messages. Throws
// UserError.
void read_compute_options(const std::optional<Section>& section, const Section& root,
                          const std::optional<Device>& device, ExecutionOptions& execution,
                          Json& resolved);

}  // namespace moesim
