// Fits the flash model to a measured size x lanes table.
//
// Each cell of the table is replayed on a FlashDevice in a closed loop: every lane issues its next
// read when the last has ended. What is fitted is therefore what the simulator runs, not a formula
// beside it. Left out: service noise, heat, the loss of some percent at many lanes. Source of the
// form and of the error to expect (7 % for constant service times): hardware reference, 1.2.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "calibration/flash_table.h"
#include "hardware/device.h"

namespace moesim {

// Bytes per second of `lanes` lanes that each always have a next read of `read_bytes`, once
// start-up has passed. Without noise this is min(lanes / (host delay + service time),
// 1 / service time) x read_bytes. REQUIRES: read_bytes > 0, lanes > 0, spec.bw_gbps > 0.
double simulate_throughput(const FlashSpec& spec, std::uint64_t read_bytes, std::size_t lanes);

struct FlashFitOptions {
  // The copy rate of a lane in GB/s, 0 for none; nullopt fits it too. It is separable from the
  // host delay only where the table has few lanes at large sizes.
  std::optional<double> copy_gbps = 0.0;
};

struct FlashFitRow {
  FlashRow measured;
  double simulated_bytes_per_s = 0;
  double error = 0;  // simulated / measured - 1
};

struct FlashFit {
  // Rounded to 0.1 us and 0.001 GB/s, far below what a table can tell; errors are for these values.
  double host_delay_us = 0;
  double dev_cmd_us = 0;
  double bw_gbps = 0;
  double copy_gbps = 0;
  double rms = 0;  // root mean square of log(simulated / measured)
  std::vector<FlashFitRow> rows;
};

// Minimises the rms by a grid and a pattern search; no random numbers. Bounds: host delay 0 to 5
// ms, device time per read 0 to 500 us, device rate 0.5 to 4 times the fastest row, copy rate 0.2
// to 50 times. Throws UserError naming `shown` where the table has fewer rows than values to fit,
// and for a given copy rate outside [0, 10^6] GB/s.
FlashFit fit_flash(const FlashTable& table, const FlashFitOptions& options,
                   const std::string& shown);

// The errors of given values on a table: rms and rows of `spec` instead of a fit.
FlashFit evaluate_flash(const FlashTable& table, const FlashSpec& spec);

}  // namespace moesim
