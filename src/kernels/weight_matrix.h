// Weights as the kernels read them, and how they are written.
//
// A matrix is row-major without gaps between rows, any address will do. A row of `columns` weights:
//   fp16  2 bytes a weight, little-endian
//   q8    blocks of 32 weights: the scales of all blocks (fp16), then 32 bytes for each block, the
//         codes in [-127, 127]; weight = scale * code
//   q4    the same with 16 bytes for each block: byte j holds the code of weight j in its low and
//         that of weight j + 16 in its high four bits, plus 8; codes in [-7, 7]
// Where 32 does not divide the columns, the last block is filled up with zeros. The scales come
// first, and not in front of each block, so that vectors of scales are converted at once.
// The host must be little-endian.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace moesim {

enum class WeightFormat : std::uint8_t { kFp16, kQ8, kQ4 };

inline constexpr std::array kWeightFormats{WeightFormat::kFp16, WeightFormat::kQ8,
                                           WeightFormat::kQ4};
inline constexpr std::size_t kBlockWeights = 32;

// "fp16", "q8", "q4".
std::string_view weight_format_name(WeightFormat format);

// Bytes of a row. fp16: 2 a weight; q8: 34 and q4: 18 a block.
constexpr std::size_t weight_row_bytes(WeightFormat format, std::size_t columns) {
  const std::size_t blocks = (columns + kBlockWeights - 1) / kBlockWeights;
  switch (format) {
    case WeightFormat::kFp16:
      return columns * 2;
    case WeightFormat::kQ8:
      return blocks * (2 + kBlockWeights);
    case WeightFormat::kQ4:
      return blocks * (2 + kBlockWeights / 2);
  }
  return 0;
}

// A view; the bytes are another's.
struct WeightMatrix {
  WeightFormat format = WeightFormat::kFp16;
  std::size_t rows = 0;
  std::size_t columns = 0;
  const std::byte* data = nullptr;  // [rows * row_bytes()]

  [[nodiscard]] std::size_t row_bytes() const { return weight_row_bytes(format, columns); }
  [[nodiscard]] std::size_t bytes() const { return rows * row_bytes(); }
  [[nodiscard]] const std::byte* row(std::size_t index) const { return data + index * row_bytes(); }
};

// Writes one row. fp16 rounds to the nearest. A block's scale is the half nearest to its largest
// magnitude / 127 (q8) or / 7 (q4), and its codes are the nearest ones, so that each weight is off
// by at most half a scale; where that is more (scales below 2^-14 are coarse), by 2^-25 * 127 or 7.
// REQUIRES: `row` has weight_row_bytes(format, weights.size()) bytes. InvariantError where it has
// not, or where a weight is not finite or too large for the format (65504 times 1, 127 or 7).
void encode_row(WeightFormat format, std::span<const float> weights, std::span<std::byte> row);

// The weights that a row stands for, exactly: code times scale has at most 19 bits.
// REQUIRES: as above.
void decode_row(WeightFormat format, std::span<const std::byte> row, std::span<float> weights);

}  // namespace moesim
