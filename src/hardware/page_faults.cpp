#include "hardware/page_faults.h"

#include <algorithm>
#include <cmath>

namespace moesim {
namespace {

double window_bytes(const FlashSpec& flash) { return flash.mmap_window_kib * 1024.0; }

// What the device needs for a window; a fault contains it.
double device_us(const FlashSpec& flash) { return window_bytes(flash) / (flash.bw_gbps * 1e3); }

}  // namespace

FlashSpec page_fault_path(const FlashSpec& flash, std::size_t threads) {
  FlashSpec path;
  path.bw_gbps = flash.bw_gbps;
  path.qd_limit = flash.qd_limit;
  path.lanes = std::min(threads, flash.qd_limit);
  path.noise_sigma = flash.noise_sigma;
  path.hot_derate = flash.hot_derate;
  path.mmap_fault_us = flash.mmap_fault_us;
  path.mmap_window_kib = flash.mmap_window_kib;
  const double host_us = *flash.mmap_fault_us - device_us(flash);
  if (host_us > 0) path.copy_gbps = window_bytes(flash) / host_us * 1e-3;
  return path;
}

Duration page_fault_time(const FlashSpec& flash, std::uint64_t bytes, std::size_t threads,
                         double derate) {
  const double faults = std::ceil(static_cast<double>(bytes) / window_bytes(flash));
  const double fault_us = *flash.mmap_fault_us + device_us(flash) * (1 / derate - 1);
  const Duration faulting = from_us(faults * fault_us / static_cast<double>(threads));
  return std::max(faulting, transfer_time(bytes, to_rate(flash.bw_gbps * derate)));
}

}  // namespace moesim
