// The section `memory` of a configuration: what the app may hold, and what it holds beside experts.
#pragma once

#include <optional>

#include "config/section.h"
#include "hardware/device.h"

namespace moesim {

// Where the pages of the dense weights come from when they were stolen: memory of the app (zram),
// a file that is mapped (flash), or they cannot be stolen (a pinned buffer).
enum class DensePages : std::uint8_t { kAnonymous, kFile, kPinned };

struct MemoryOptions {
  double app_budget_mib = 0;
  DensePages dense_pages = DensePages::kAnonymous;
  double buffers_mib = 0;  // what the engine holds beside weights, key-value cache and experts
  // The expert cache is committed as a whole before the first token, so that admitting an expert
  // commits nothing.
  bool reserves_experts = false;
};

// Reads `memory` and writes what is in force to `resolved`, null where there is no device. Where
// experts have reserved memory, admissions on `device` are free afterwards. Throws UserError, also
// where the section is there without a device.
MemoryOptions read_memory_options(Section& root, std::optional<Device>& device, Json& resolved);

}  // namespace moesim
