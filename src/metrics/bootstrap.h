// How sure a difference of two means is, from the values of which they are the means.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace moesim {

struct RatioInterval {
  double ratio = 0;  // mean of a / mean of b
  double low = 0;    // of it, 2.5 % and 97.5 % of the resamples lie below
  double high = 0;
  std::size_t block_a = 1;  // values drawn together
  std::size_t block_b = 1;
};

inline constexpr std::size_t kResamples = 4000;
// Fewer blocks differ too little from draw to draw to say anything.
inline constexpr std::size_t kLeastBlocks = 8;

// The circular block bootstrap (Politis and Romano, 1992) with blocks of ceil(n^(1/3)) values,
// because tokens near each other are alike: single draws would make the interval too narrow.
// `paired`: both draw the same places. Percentile interval. Equal arguments give equal results.
// Nothing where there are fewer than kLeastBlocks blocks, or a resample has a sum of 0, because few
// values are not 0. REQUIRES: no value below 0; equal sizes where paired.
std::optional<RatioInterval> bootstrap_ratio(std::span<const double> a, std::span<const double> b,
                                             bool paired, std::uint64_t seed);

}  // namespace moesim
