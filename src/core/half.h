// IEEE binary16 and bfloat16 to and from float, branch-free so that rows convert as vectors.
#pragma once

#include <bit>
#include <cstdint>

namespace moesim {

// REQUIRES: the value is finite (traces are checked once, on opening); see half_is_finite().
constexpr float half_to_float(std::uint16_t half) {
  // Shift the exponent into place and multiply by 2^112, which also normalises subnormals.
  const auto magnitude = std::bit_cast<float>(static_cast<std::uint32_t>(half & 0x7FFFU) << 13U);
  const auto scaled = std::bit_cast<std::uint32_t>(magnitude * 0x1.0p112F);
  return std::bit_cast<float>(scaled | (static_cast<std::uint32_t>(half & 0x8000U) << 16U));
}

constexpr bool half_is_finite(std::uint16_t half) { return (half & 0x7C00U) != 0x7C00U; }

constexpr float bfloat16_to_float(std::uint16_t value) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value) << 16U);
}

constexpr bool bfloat16_is_finite(std::uint16_t value) { return (value & 0x7F80U) != 0x7F80U; }

// Round to nearest even; overflow gives infinity.
constexpr std::uint16_t float_to_half(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16U) & 0x8000U);
  const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
  if (magnitude > 0x7F800000U) return static_cast<std::uint16_t>(sign | 0x7E00U);
  if (magnitude >= 0x477FF000U) return static_cast<std::uint16_t>(sign | 0x7C00U);
  if (magnitude < 0x38800000U) {  // Subnormal half: let the float adder round.
    const float rounded = std::bit_cast<float>(magnitude) + 0.5F;
    return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(rounded) - 0x3F000000U));
  }
  const std::uint32_t odd = (magnitude >> 13U) & 1U;
  return static_cast<std::uint16_t>(sign | ((magnitude - 0x38000000U + 0xFFFU + odd) >> 13U));
}

}  // namespace moesim
