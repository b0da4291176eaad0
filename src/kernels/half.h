// IEEE 754 binary16, the format in which weights and block scales are stored, as bits. Conversions
// one by one, for encoding and for code without vectors; the kernels convert with the CPU's own
// instructions where it has them.
#pragma once

#include <bit>
#include <cstdint>

namespace moesim {

enum class Half : std::uint16_t {};

// Exact: every half is a float. A NaN keeps its payload.
constexpr float half_to_float(Half half) {
  const std::uint32_t bits = static_cast<std::uint16_t>(half);
  const std::uint32_t sign = (bits & 0x8000U) << 16;
  const std::uint32_t exponent = (bits >> 10) & 0x1FU;
  const std::uint32_t fraction = bits & 0x3FFU;
  if (exponent == 0) {  // Zero and subnormals: fraction * 2^-24, a product without rounding.
    const float magnitude = static_cast<float>(fraction) * 0x1.0p-24F;
    return sign == 0 ? magnitude : -magnitude;
  }
  const std::uint32_t wide = exponent == 0x1FU ? 0xFFU : exponent + (127 - 15);
  return std::bit_cast<float>(sign | (wide << 23) | (fraction << 13));
}

// To the nearest, ties to even; from 65520 on infinity. A NaN stays one.
constexpr Half float_to_half(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000U;
  const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
  if (magnitude > 0x7F800000U) return static_cast<Half>(sign | 0x7E00U);
  if (magnitude >= 0x47800000U) return static_cast<Half>(sign | 0x7C00U);  // 65536 and more
  if (magnitude < 0x38800000U) {  // Below 2^-14: a multiple of 2^-24.
    // At 0.5 the last place of a float is 2^-24, so the addition rounds as wanted.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5F;
    return static_cast<Half>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3F000000U));
  }
  // Half of the last place kept, less one where that place is even; a carry moves the exponent.
  const std::uint32_t rounded = magnitude + 0xFFFU + ((magnitude >> 13) & 1U);
  return static_cast<Half>(sign | ((rounded - ((127U - 15U) << 23)) >> 13));
}

}  // namespace moesim
