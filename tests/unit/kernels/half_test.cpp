#include "kernels/half.h"

#include <doctest/doctest.h>

#include <Eigen/Core>
#include <bit>
#include <cmath>
#include <cstdint>

namespace moesim::test {

TEST_SUITE("kernels/half") {
  std::uint16_t bits(Half half) { return static_cast<std::uint16_t>(half); }

  TEST_CASE("every half becomes the float of the same value and back") {
    int wrong = 0;
    for (std::uint32_t pattern = 0; pattern < 0x10000; ++pattern) {
      const auto half = static_cast<Half>(pattern);
      const float value = half_to_float(half);
      const auto eigen = std::bit_cast<Eigen::half>(static_cast<std::uint16_t>(pattern));
      if (std::isnan(value)) {
        wrong += std::isnan(static_cast<float>(eigen)) ? 0 : 1;
        wrong += std::isnan(half_to_float(float_to_half(value))) ? 0 : 1;
      } else {
        wrong += value == static_cast<float>(eigen) ? 0 : 1;
        wrong += bits(float_to_half(value)) == pattern ? 0 : 1;
      }
    }
    CHECK(wrong == 0);
  }

  TEST_CASE("floats are rounded to the nearest half, ties to even, as Eigen does") {
    int wrong = 0;
    // All exponents, and fractions around the middle between two halves.
    for (std::uint32_t high = 0; high < 0x10000; ++high) {
      for (const std::uint32_t low : {0x0000U, 0x0FFFU, 0x1000U, 0x1001U, 0x8000U, 0xFFFFU}) {
        const float value = std::bit_cast<float>((high << 16) | low);
        if (std::isnan(value)) continue;
        const auto expected = std::bit_cast<std::uint16_t>(Eigen::half(value));
        wrong += bits(float_to_half(value)) == expected ? 0 : 1;
      }
    }
    CHECK(wrong == 0);
  }

  TEST_CASE("values worked out by hand") {
    CHECK(bits(float_to_half(1.0F)) == 0x3C00);
    CHECK(bits(float_to_half(-2.0F)) == 0xC000);
    CHECK(bits(float_to_half(65504.0F)) == 0x7BFF);
    CHECK(bits(float_to_half(65519.996F)) == 0x7BFF);
    CHECK(bits(float_to_half(65520.0F)) == 0x7C00);
    CHECK(bits(float_to_half(0x1p-24F)) == 0x0001);
    CHECK(bits(float_to_half(0x1p-25F)) == 0x0000);
    CHECK(bits(float_to_half(0x1.000002p-25F)) == 0x0001);
    CHECK(bits(float_to_half(-0.0F)) == 0x8000);
    CHECK(half_to_float(static_cast<Half>(0x3555)) == 0.333251953125F);
  }
}

}  // namespace moesim::test
