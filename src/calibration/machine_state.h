// Measures how fast the machine is at the moment.
#pragma once

#include <cstdint>

#include "calibration/machine_validation.h"
#include "hardware/device.h"
#include "kernels/store/page_memory.h"
#include "kernels/store/store_reader.h"
#include "kernels/thread_team.h"

namespace moesim {

// What a device file says of the same. Flash by the model that runs use. `file_bytes`: see below.
MachineState expected_state(const Device& device, std::size_t threads, std::uint64_t file_bytes);

// Medians of about a tenth of a second. `memory`: at least kStateMemory; its content is read and a
// part of it written over. `file_bytes`: what may be read of the reader's file.
inline constexpr std::size_t kStateMemory = std::size_t{192} << 20;
MachineState measure_state(const PageMemory& memory, ThreadTeam& team, StoreReader& reader,
                           std::uint64_t file_bytes);

}  // namespace moesim
