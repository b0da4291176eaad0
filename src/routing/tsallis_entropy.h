// Tsallis entropy of a router's probabilities (DynMoLE, arXiv 2504.00661).
#pragma once

#include <cmath>
#include <cstddef>
#include <span>

namespace moesim {

// Closer to 1 than this, q means Shannon's entropy: the quotient would be all rounding. The width
// is the epsilon of the authors' code.
inline constexpr double kTsallisLimit = 1e-5;

// S_q(p) = (1 - sum_e p_e^q) / (q - 1), in nats; Shannon's entropy at q = 1. `probabilities` sum to
// 1. REQUIRES: q > 0.
inline double tsallis_entropy(std::span<const double> probabilities, double q) {
  const bool shannon = std::abs(q - 1) < kTsallisLimit;
  double sum = 0;
  for (const double p : probabilities) {
    if (p > 0) sum += shannon ? -p * std::log(p) : std::pow(p, q);
  }
  return shannon ? sum : (1 - sum) / (q - 1);
}

// The largest S_q over so many experts: that of equal probabilities.
inline double largest_tsallis_entropy(std::size_t experts, double q) {
  const auto count = static_cast<double>(experts);
  if (std::abs(q - 1) < kTsallisLimit) return std::log(count);
  return (1 - std::pow(count, 1 - q)) / (q - 1);
}

}  // namespace moesim
