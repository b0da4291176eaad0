// A simulated run beside real runs of the same work: how far off it is, and how far the real runs
// are from each other. Knows results only.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "metrics/run_result.h"

namespace moesim {

// Simulated / real - 1, but for the last two.
struct TimeErrors {
  double mean = 0;  // of the time per token, as the next three
  double p50 = 0;
  double p90 = 0;
  double p99 = 0;
  double per_token_mape = 0;          // mean over tokens of |simulated / real - 1|
  std::optional<double> correlation;  // of the two over the tokens (Pearson); none without spread
  // Of the parts of the mean; none where the real one is under 1 % of the time per token.
  std::optional<double> compute;
  std::optional<double> flash_stall;
  std::optional<double> io;  // time that reads held lanes
};

// REQUIRES: times and rows of the same tokens in both.
TimeErrors compare_times(const RunResult& real, const RunResult& simulated);

// Real runs of the same work. The largest distance from the median one, over that.
struct RealNoise {
  std::size_t repeats = 0;
  double mean = 0;
  double p50 = 0;
  double p90 = 0;
  double p99 = 0;
  // Mean of |run / median run - 1| over the tokens and the other runs: what per_token_mape would be
  // of a simulation that is right.
  double per_token_mape = 0;
};

// The run whose mean time is the median (of an even number, the faster of the two in the middle).
// REQUIRES: at least one.
std::size_t median_run(const std::vector<RunResult>& runs);
RealNoise noise_of(const std::vector<RunResult>& runs);

// What must agree exactly: tokens, accesses, hits, misses, evictions, loads, bytes read, reads, and
// token by token hits, misses and bytes. Empty where all does, else the first that does not:
// "token 7: hits: real 3, simulated 4".
std::string first_difference(const RunResult& real, const RunResult& simulated);

}  // namespace moesim
