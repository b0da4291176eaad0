// Exponentials of a whole row of numbers that are at most 0, as softmax needs them, in double.
//
// exp(x) = 2^(k/128) exp(r), with 2^(k/128) out of a table and a polynomial for |r| <= ln 2 / 256:
// no division and no call, so that the compiler keeps several under way. Within 2 units in the last
// place of the exact value, and the same bits on every machine.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <span>

namespace moesim {

namespace row_exp_detail {

inline constexpr int kSteps = 128;  // of the table, per power of two

inline const std::array<double, kSteps> kPowers = [] {
  std::array<double, kSteps> powers{};
  for (std::size_t i = 0; i < powers.size(); ++i) {
    powers[i] = std::exp2(static_cast<double>(i) / kSteps);
  }
  return powers;
}();

// REQUIRES: -700 <= x <= 0, so that nothing is subnormal.
inline double exp_of(double x) {
  constexpr double kRound = 0x1.8p52;  // adding it leaves an integer in the low bits
  // ln 2 / 128 in two parts; the products of the first with the integers that occur are exact.
  constexpr double kStepHigh = 0x1.62e42fefa0000p-8;
  constexpr double kStepLow = 0x1.cf79abc9e3b3ap-47;
  const double shifted = x * (kSteps / std::numbers::ln2) + kRound;
  const auto bits = std::bit_cast<std::uint64_t>(shifted);
  const double whole = shifted - kRound;
  const double r = (x - whole * kStepHigh) - whole * kStepLow;
  const auto power = std::bit_cast<std::uint64_t>(kPowers[bits % kSteps]);
  // The integer, less the part that the table has, goes into the exponent.
  const auto scale = std::bit_cast<double>(power + (bits / kSteps << 52U));
  const double tail = r * r * (0.5 + r * (1.0 / 6 + r * (1.0 / 24 + r * (1.0 / 120))));
  return scale + scale * (r + tail);
}

}  // namespace row_exp_detail

// Replaces each x by exp(x). REQUIRES: no x is above 0.
inline void exp_row(std::span<double> row) {
  for (double& x : row) x = x >= -700 ? row_exp_detail::exp_of(x) : std::exp(x);
}

}  // namespace moesim
