// The same decode for real and simulated: what came of both.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "calibration/run_comparison.h"
#include "metrics/run_result.h"

namespace moesim {

struct MachineValidation {
  RunResult real;  // of the run with the median mean time
  RunResult simulated;
  TimeErrors error;
  RealNoise noise;
  std::vector<double> real_means_ms;  // of every real run, in their order
  // Outputs of every real run equal the reference's; else the first token that does not.
  bool outputs_match = false;
  std::string output_difference;  // "" where they match
  std::uint64_t outputs_checksum = 0;
  std::size_t reference_tokens = 0;  // that were compared with it
  std::string count_difference;      // first_difference(); "" where hits, bytes and so on agree
  // What it was done with.
  std::string simd;    // kernels/simd_target.h
  std::string reader;  // "4 lanes, direct"
  std::uint64_t store_bytes = 0;
  double dense_mib = 0;
  double experts_mib = 0;  // of the arena
};

}  // namespace moesim
