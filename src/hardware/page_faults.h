// Reading a file through a memory map: the threads that compute take page faults, each of which
// brings in one window (the page and its readahead).
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/units.h"
#include "hardware/device.h"

namespace moesim {

// Flash as threads see it that fault: each is a lane whose host time grows with the bytes, so that
// one fault, device included, takes mmap_fault_us. The device's rate stays the limit of all.
// REQUIRES: flash.mmap_fault_us.
FlashSpec page_fault_path(const FlashSpec& flash, std::size_t threads);

// Time in which so many threads fault in `bytes`; not less than the device needs for them.
// REQUIRES: flash.mmap_fault_us, threads > 0.
Duration page_fault_time(const FlashSpec& flash, std::uint64_t bytes, std::size_t threads);

}  // namespace moesim
