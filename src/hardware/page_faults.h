// Reading a file through a memory map: the threads that compute take page faults, each of which
// brings in one window (the page and its readahead).
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/units.h"
#include "hardware/device.h"

namespace moesim {

// Flash as threads see it that fault: each is a lane whose host time grows with the bytes, so that
// one fault, device included, takes mmap_fault_us. The device's rate stays the limit of all, less
// hot_derate where it is hot. The rest is left behind, because the fault contains it: delays,
// commands and how they are submitted, and what a device serves of small reads (a window is one,
// but the windows of an expert follow each other). Nothing is bounced.
// REQUIRES: flash.mmap_fault_us.
FlashSpec page_fault_path(const FlashSpec& flash, std::size_t threads);

// Time in which so many threads fault in `bytes`; not less than the device needs for them. The
// device keeps the share `derate` of its rate, so that its part of a fault takes longer.
// REQUIRES: flash.mmap_fault_us, threads > 0, derate > 0.
Duration page_fault_time(const FlashSpec& flash, std::uint64_t bytes, std::size_t threads,
                         double derate = 1);

}  // namespace moesim
