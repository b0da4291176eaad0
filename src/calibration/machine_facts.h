// What the system says of itself before anything is measured.
#pragma once

#include <cstddef>
#include <cstdint>

#include "calibration/machine_probe.h"

namespace moesim {

// Memory that reads of a calibration land in.
inline constexpr std::uint64_t kReadTargetBytes = std::uint64_t{128} << 20;

// Of the last-level cache; 32 MiB where the system does not say.
std::uint64_t last_level_cache_bytes();

// Cores, vector instructions, memory and page size; what concerns reads is left to the caller.
MachineFacts machine_facts();

}  // namespace moesim
