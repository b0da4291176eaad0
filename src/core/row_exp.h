// Exponentials of a whole row of numbers that are at most 0, as softmax needs them, in double.
//
// exp(x) = 2^(k/128) exp(r), with 2^(k/128) out of a table and a polynomial for |r| <= ln 2 / 256,
// for two numbers at once: no division, no call, and the same bits on every machine. Within 2
// units in the last place of the exact value down to -700; what is below counts as -700.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numbers>
#include <span>

namespace moesim {

namespace row_exp_detail {

inline constexpr std::size_t kSteps = 128;  // of the table, per power of two: 2^7
inline constexpr std::size_t kLanes = 2;

using Doubles __attribute__((vector_size(8 * kLanes))) = double;
using Bits __attribute__((vector_size(8 * kLanes))) = std::uint64_t;

// The bits of 2^(i/128).
inline const std::array<std::uint64_t, kSteps> kPowers = [] {
  std::array<std::uint64_t, kSteps> powers{};
  for (std::size_t i = 0; i < kSteps; ++i) {
    const double power = std::exp2(static_cast<double>(i) / static_cast<double>(kSteps));
    std::memcpy(&powers[i], &power, sizeof(power));
  }
  return powers;
}();

// By reference: a vector as an argument has no fixed ABI.
inline void exp_of(Doubles& numbers) {
  constexpr double kRound = 0x1.8p52;  // adding it leaves an integer in the low bits
  constexpr double kStepsPerUnit = static_cast<double>(kSteps) / std::numbers::ln2;
  // ln 2 / 128 in two parts; the products of the first with the integers that occur are exact.
  constexpr double kStepHigh = 0x1.62e42fefa0000p-8;
  constexpr double kStepLow = 0x1.cf79abc9e3b3ap-47;
  const Doubles x = numbers < -700.0 ? Doubles{} - 700.0 : numbers;
  const Doubles shifted = x * kStepsPerUnit + kRound;
  const auto bits = reinterpret_cast<Bits>(shifted);
  const Doubles whole = shifted - kRound;
  const Doubles r = (x - whole * kStepHigh) - whole * kStepLow;
  const Bits place = bits & (kSteps - 1);
  const Bits power = {kPowers[place[0]], kPowers[place[1]]};
  // The integer, less the part that the table has, goes into the exponent.
  const auto scale = reinterpret_cast<Doubles>(power + ((bits >> 7U) << 52U));
  const Doubles tail = r * r * (0.5 + r * (1.0 / 6 + r * (1.0 / 24 + r * (1.0 / 120))));
  numbers = scale + scale * (r + tail);
}

}  // namespace row_exp_detail

// Replaces each x by exp(x). REQUIRES: no x is above 0.
inline void exp_row(std::span<double> row) {
  using row_exp_detail::Doubles;
  constexpr std::size_t kLanes = row_exp_detail::kLanes;
  const std::size_t whole = row.size() - row.size() % kLanes;
  Doubles x{};
  for (std::size_t i = 0; i < whole; i += kLanes) {
    std::memcpy(&x, &row[i], sizeof(x));
    row_exp_detail::exp_of(x);
    std::memcpy(&row[i], &x, sizeof(x));
  }
  if (whole == row.size()) return;
  const std::size_t rest = sizeof(double) * (row.size() - whole);
  x = Doubles{};
  std::memcpy(&x, &row[whole], rest);
  row_exp_detail::exp_of(x);
  std::memcpy(&row[whole], &x, rest);
}

}  // namespace moesim
