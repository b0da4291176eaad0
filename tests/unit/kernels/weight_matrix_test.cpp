#include "kernels/weight_matrix.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

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

  TEST_CASE("panels: 2048 columns each, the rest in the last, one behind the other") {
    for (const WeightFormat format : kWeightFormats) {
      for (const std::size_t columns : {0U, 1U, 2048U, 2049U, 4096U, 5000U}) {
        CAPTURE(columns);
        const std::vector<std::byte> memory(3 * weight_row_bytes(format, columns) + 1);
        const WeightMatrix w{format, 3, columns, memory.data()};
        REQUIRE(w.panels() == std::max<std::size_t>(1, (columns + 2047) / 2048));
        std::size_t next = 0;
        std::size_t bytes = 0;
        for (std::size_t i = 0; i < w.panels(); ++i) {
          const WeightPanel panel = w.panel(i);
          CHECK(panel.first_column == next);
          CHECK(panel.data == w.data + bytes);
          CHECK(panel.rows == 3);
          next += panel.columns;
          bytes += 3 * panel.row_bytes();
          if (i + 1 < w.panels()) CHECK(panel.columns == 2048);
        }
        CHECK(next == columns);
        CHECK(bytes == w.bytes());
      }
    }
  }

  // A matrix whose weight in row r and column c is r + (c mod 100).
  std::vector<std::byte> counting_matrix(const WeightMatrix& w) {
    std::vector<std::byte> memory(w.stored_rows * w.row_bytes());
    std::vector<float> row(w.columns);
    for (std::size_t r = 0; r < w.rows; ++r) {
      for (std::size_t c = 0; c < w.columns; ++c) row[c] = static_cast<float>(r + c % 100);
      encode_matrix_row(w, r, row, memory.data());
    }
    return memory;
  }

  TEST_CASE("a row of a matrix lies in all panels, those of fp16 at these bytes") {
    WeightMatrix w{WeightFormat::kFp16, 5, 2053, nullptr};
    const auto memory = counting_matrix(w);
    w.data = memory.data();
    const auto half_at = [&](std::size_t index) { return scale_of(memory, index); };
    CHECK(half_at(2 * 2048 + 7) == 2 + 7);                 // row 2, column 7
    CHECK(half_at(5 * 2048 + 3 * 5 + 4) == 3 + 52 % 100);  // row 3, column 2052
    std::vector<float> row(2053);
    decode_matrix_row(w, 4, row);
    for (std::size_t c = 0; c < 2053; ++c) CHECK(row[c] == static_cast<float>(4 + c % 100));
    CHECK_THROWS_WITH_AS(decode_matrix_row(w, 4, std::span(row).first(2048)),
                         "a matrix has another number of columns", InvariantError);
  }

  // The first three rows of a matrix of seven, whose other bytes are 0x5A.
  void check_top(const WeightMatrix& pattern, const std::vector<std::byte>& memory) {
    const WeightMatrix top{pattern.format, 3, pattern.columns, memory.data(), 7};
    CHECK(top.bytes() == 3 * top.row_bytes());
    std::vector<float> expected(pattern.columns);
    std::vector<float> row(pattern.columns);
    for (std::size_t r = 0; r < 3; ++r) {
      decode_matrix_row(pattern, r, expected);
      decode_matrix_row(top, r, row);
      CHECK(row == expected);
    }
    for (std::size_t i = 0; i < top.panels(); ++i) {
      const WeightPanel panel = top.panel(i);
      CHECK(std::all_of(panel.row(3), panel.row(7), [](auto b) { return b == std::byte{0x5A}; }));
    }
  }

  TEST_CASE("the first rows of a taller matrix lie among its rows, and the others stay") {
    for (const WeightFormat format : kWeightFormats) {
      Rng rng(9);
      const auto weights = random_floats(rng, 7 * 4100);
      const OwnedMatrix whole(format, 7, 4100, weights);
      const WeightMatrix top{format, 3, 4100, nullptr, 7};
      std::vector<std::byte> memory(7 * top.row_bytes(), std::byte{0x5A});
      repeat_rows(whole.view(), top, memory.data());
      check_top(whole.view(), memory);
      std::fill(memory.begin(), memory.end(), std::byte{0x5A});
      for (std::size_t r = 0; r < 3; ++r) {
        encode_matrix_row(top, r, std::span(weights).subspan(r * 4100, 4100), memory.data());
      }
      check_top(whole.view(), memory);
      std::vector<float> row(4100);
      CHECK_THROWS_WITH_AS(decode_matrix_row(top, 3, row), "a matrix does not have that row",
                           InvariantError);
    }
  }

  TEST_CASE("rows are repeated, panel by panel") {
    for (const WeightFormat format : kWeightFormats) {
      Rng rng(10);
      const OwnedMatrix pattern(format, 3, 2100, random_floats(rng, 3 * 2100));
      WeightMatrix w{format, 8, 2100, nullptr};
      std::vector<std::byte> memory(w.bytes());
      repeat_rows(pattern.view(), w, memory.data());
      w.data = memory.data();
      std::vector<float> expected(2100);
      std::vector<float> row(2100);
      for (std::size_t r = 0; r < 8; ++r) {
        decode_matrix_row(pattern.view(), r % 3, expected);
        decode_matrix_row(w, r, row);
        CHECK(row == expected);
      }
      const WeightFormat other =
          format == WeightFormat::kQ8 ? WeightFormat::kQ4 : WeightFormat::kQ8;
      CHECK_THROWS_WITH_AS(repeat_rows(pattern.view(), {other, 8, 2100, nullptr}, memory.data()),
                           "a pattern has another format", InvariantError);
    }
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
