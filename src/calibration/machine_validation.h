// The same decode for real and simulated: what came of both.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "calibration/product_times.h"
#include "calibration/run_comparison.h"
#include "metrics/run_result.h"

namespace moesim {

// How fast the machine is at a moment, beside what its device file says: a machine that is shared,
// or hot, is not always the one that was calibrated.
struct MachineState {
  double stream_gbps = 0;  // memory read by the threads that compute
  double read_gbps = 0;    // direct reads of 1 MiB, one after the other

  // The larger of the two relative distances from `expected`.
  [[nodiscard]] double distance(const MachineState& expected) const {
    return std::max(std::abs(stream_gbps / expected.stream_gbps - 1),
                    std::abs(read_gbps / expected.read_gbps - 1));
  }
};

struct MachineValidation {
  RunResult real;  // of the run with the median mean time
  RunResult simulated;
  TimeErrors error;
  RealNoise noise;
  std::vector<double> real_means_ms;  // of every real run, in their order
  ProductTimes products{};            // of the run with the median mean time
  // Outputs of every real run equal the reference's; else the first token that does not.
  bool outputs_match = false;
  std::string output_difference;  // "" where they match
  std::uint64_t outputs_checksum = 0;
  std::size_t reference_tokens = 0;  // that were compared with it
  std::string count_difference;      // first_difference(); "" where hits, bytes and so on agree
  // Before the first real run and after each; empty where reads are not direct ones.
  std::vector<MachineState> states;
  MachineState expected_state;  // what the device file says
  // What it was done with.
  std::string simd;    // kernels/simd_target.h
  std::string reader;  // "4 lanes, direct"
  std::uint64_t store_bytes = 0;
  double dense_mib = 0;
  double experts_mib = 0;  // of the arena
};

}  // namespace moesim
