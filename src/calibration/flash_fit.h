// Fits the flash model to a measured size x lanes table.
//
// Each cell of the table is replayed on a FlashDevice in a closed loop: every lane issues its next
// read when the last has ended. What is fitted is therefore what the simulator runs, not a formula
// beside it. Times that an engine spent on reading (engine_rows.h) may be fitted to as well: they
// are what tells the rate of a bounce copy, for the reads of a table are aligned. Left out: service
// noise, heat, the loss of some percent at many lanes. Source of the form and of the error to
// expect (7 % for constant service times): hardware reference, 1.2.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "calibration/engine_rows.h"
#include "calibration/flash_table.h"
#include "hardware/device.h"

namespace moesim {

// Bytes per second of `lanes` lanes that each always have a next read of `read_bytes`, once
// start-up has passed. Without noise this is min(lanes / (host delay + service time),
// 1 / service time) x read_bytes. Reads are not bounced. REQUIRES: read_bytes > 0, lanes > 0,
// spec.bw_gbps > 0.
double simulate_throughput(const FlashSpec& spec, std::uint64_t read_bytes, std::size_t lanes);

struct FlashFitOptions {
  // The copy rate of a lane in GB/s, 0 for none; nullopt fits it too. It is separable from the
  // host delay only where the table has few lanes at large sizes.
  std::optional<double> copy_gbps = 0.0;
  // The rate of the bounce copy in GB/s, 0 for none; nullopt fits it too, and needs a row with it.
  std::optional<double> bounce_gbps = 0.0;
  std::vector<EngineRow> engine_rows{};
  double rows_weight = 1;  // of an engine row; a cell of the table weighs 1
};

struct FlashFitRow {
  FlashRow measured;
  double simulated_bytes_per_s = 0;
  double error = 0;  // simulated / measured - 1
};

struct EngineFitRow {
  EngineRow measured;
  double simulated_ms = 0;
  double error = 0;  // simulated / measured - 1
};

struct FlashFit {
  // Rounded to 0.1 us and 0.001 GB/s, far below what a table can tell; errors are for these values.
  double host_delay_us = 0;
  double dev_cmd_us = 0;
  double bw_gbps = 0;
  double copy_gbps = 0;
  double bounce_gbps = 0;
  double rms = 0;  // root mean square of log(simulated / measured), of the table
  std::vector<FlashFitRow> rows;
  double engine_rms = 0;  // the same of the engine rows
  std::vector<EngineFitRow> engine_rows;
};

// Minimises the weighted rms of table and rows by a grid and a simplex; no random numbers. Bounds:
// host delay 0 to 5 ms, device time per read 0 to 500 us, device rate 0.5 to 4 times the fastest
// cell, copy and bounce rate 0.2 to 50 times. Throws UserError naming `shown` where there are fewer
// rows than values to fit, and for options that cannot be.
FlashFit fit_flash(const FlashTable& table, const FlashFitOptions& options,
                   const std::string& shown);

// The errors of given values: rms and rows of `spec` instead of a fit.
FlashFit evaluate_flash(const FlashTable& table, const FlashSpec& spec,
                        const std::vector<EngineRow>& engine_rows = {});

}  // namespace moesim
