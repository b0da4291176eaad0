#include "kernels/weight_matrix.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/errors.h"
#include "kernels/half.h"
#include "support/kernels.h"

namespace moesim::test {

TEST_SUITE("kernels/weight_matrix") {
  std::vector<std::byte> encoded(WeightFormat format, std::span<const float> weights) {
    std::vector<std::byte> row(weight_row_bytes(format, weights.size()));
    encode_row(format, weights, row);
    return row;
  }

  std::vector<float> decoded(WeightFormat format, std::span<const std::byte> row,
                             std::size_t columns) {
    std::vector<float> weights(columns);
    decode_row(format, row, weights);
    return weights;
  }

  float scale_of(std::span<const std::byte> row, std::size_t block) {
    Half half{};
    std::memcpy(&half, row.data() + block * sizeof half, sizeof half);
    return half_to_float(half);
  }

  TEST_CASE("a row has the bytes of its weights, or of its whole blocks") {
    CHECK(weight_row_bytes(WeightFormat::kFp16, 33) == 66);
    CHECK(weight_row_bytes(WeightFormat::kQ8, 32) == 34);
    CHECK(weight_row_bytes(WeightFormat::kQ8, 33) == 68);
    CHECK(weight_row_bytes(WeightFormat::kQ4, 64) == 36);
    CHECK(weight_row_bytes(WeightFormat::kQ4, 1) == 18);
    CHECK(weight_row_bytes(WeightFormat::kQ4, 0) == 0);
    const WeightMatrix w{WeightFormat::kQ4, 3, 40, nullptr};
    CHECK(w.row_bytes() == 36);
    CHECK(w.bytes() == 108);
  }

  TEST_CASE("formats have names") {
    CHECK(weight_format_name(WeightFormat::kFp16) == "fp16");
    CHECK(weight_format_name(WeightFormat::kQ8) == "q8");
    CHECK(weight_format_name(WeightFormat::kQ4) == "q4");
    CHECK_THROWS_WITH_AS(weight_format_name(static_cast<WeightFormat>(9)), "unknown weight format",
                         InvariantError);
  }

  TEST_CASE(
      "a q4 row byte by byte: scales first, weight j in the low and j + 16 in the high bits") {
    std::vector<float> weights(33);
    weights[0] = 7;
    weights[1] = -7;
    weights[16] = 3;
    weights[32] = -0.5F;
    const auto row = encoded(WeightFormat::kQ4, weights);
    REQUIRE(row.size() == 36);
    CHECK(scale_of(row, 0) == 1.0F);
    CHECK(scale_of(row, 1) == half_to_float(float_to_half(0.5F / 7)));
    CHECK(row[4] == std::byte{0xBF});   // 3 + 8, 7 + 8
    CHECK(row[5] == std::byte{0x81});   // 0 + 8, -7 + 8
    CHECK(row[6] == std::byte{0x88});   // zeros
    CHECK(row[20] == std::byte{0x81});  // the second block: a zero, -7 + 8
    CHECK(row[35] == std::byte{0x88});  // what fills it up
  }

  TEST_CASE("a q8 row byte by byte") {
    std::vector<float> weights(34);
    weights[0] = 127;
    weights[31] = -3;
    weights[33] = -254;
    const auto row = encoded(WeightFormat::kQ8, weights);
    REQUIRE(row.size() == 68);
    CHECK(scale_of(row, 0) == 1.0F);
    CHECK(scale_of(row, 1) == 2.0F);
    CHECK(row[4] == std::byte{127});
    CHECK(row[35] == std::byte{0xFD});
    CHECK(row[37] == std::byte{0x81});
    CHECK(row[67] == std::byte{0});
  }

  TEST_CASE("a block weight is off by at most half a scale, over eighty powers of two") {
    Rng rng(7);
    for (const WeightFormat format : {WeightFormat::kQ8, WeightFormat::kQ4}) {
      const int largest = format == WeightFormat::kQ8 ? 127 : 7;
      for (int exponent = -60; exponent <= 19; ++exponent) {
        CAPTURE(exponent);
        auto weights = random_floats(rng, 96);
        for (float& w : weights) {
          w = std::ldexp(std::clamp(w, -0.9F, 0.9F),
                         format == WeightFormat::kQ8 ? exponent : exponent - 4);
        }
        const auto row = encoded(format, weights);
        const auto back = decoded(format, row, weights.size());
        double worst = 0;
        for (std::size_t i = 0; i < weights.size(); ++i) {
          const double bound =
              std::max(0.5 * static_cast<double>(scale_of(row, i / 32)), 0x1p-25 * largest);
          worst = std::max(
              worst,
              std::abs(static_cast<double>(weights[i]) - static_cast<double>(back[i])) / bound);
        }
        CHECK(worst <= 1.0);
      }
    }
  }

  TEST_CASE("what has been decoded is encoded to the same bytes, over all numbers of columns") {
    Rng rng(8);
    for (const WeightFormat format : kWeightFormats) {
      for (std::size_t columns = 0; columns <= 100; ++columns) {
        CAPTURE(columns);
        auto weights = random_floats(rng, columns);
        // A code of the largest magnitude in each block, so that its scale is found again.
        for (std::size_t i = 0; i < columns; i += 32) weights[i] = 100;
        const auto row = encoded(format, weights);
        const auto again = encoded(format, decoded(format, row, columns));
        CHECK(row == again);
      }
    }
  }

  TEST_CASE("zeros stay zeros") {
    for (const WeightFormat format : kWeightFormats) {
      const std::vector<float> zeros(40);
      CHECK(decoded(format, encoded(format, zeros), 40) == zeros);
    }
  }

  TEST_CASE("what no format can hold is refused") {
    std::vector<std::byte> row(weight_row_bytes(WeightFormat::kFp16, 2));
    const std::vector<float> infinite{0, std::numeric_limits<float>::infinity()};
    CHECK_THROWS_WITH_AS(encode_row(WeightFormat::kFp16, infinite, row), "a weight is not finite",
                         InvariantError);
    const std::vector<float> large{0, -65505};
    CHECK_THROWS_WITH_AS(encode_row(WeightFormat::kFp16, large, row),
                         "a weight is too large for fp16", InvariantError);
    const std::vector<float> larger{0, 7 * 65505.0F};
    CHECK_THROWS_WITH_AS(encoded(WeightFormat::kQ4, larger),
                         "a weight is too large for its block format", InvariantError);
    CHECK_NOTHROW(encoded(WeightFormat::kQ8, larger));
    std::vector<float> three(3);
    const char* const size_error = "a row of weights has another size than its format wants";
    CHECK_THROWS_WITH_AS(encode_row(WeightFormat::kFp16, three, row), size_error, InvariantError);
    CHECK_THROWS_WITH_AS(decode_row(WeightFormat::kQ8, row, three), size_error, InvariantError);
  }
}

}  // namespace moesim::test
