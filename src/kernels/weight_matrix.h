// Weights as the kernels read them, and how they are written.
//
// A matrix is cut into panels of 2048 columns, the last one has the rest. Panels lie one after the
// other, each row-major without gaps between rows; any address will do. A matrix of up to 2048
// columns so is row-major. A row of a panel of `columns` weights:
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
// Their part of x, 8 KiB, stays in the first-level cache beside the weights that pass through it.
// Measured: docs/kernels.md.
inline constexpr std::size_t kPanelColumns = 2048;
static_assert(kPanelColumns % kBlockWeights == 0, "panels have whole blocks");

// "fp16", "q8", "q4".
std::string_view weight_format_name(WeightFormat format);

// Bytes of a row, of a panel or in all panels together. fp16: 2 a weight; q8: 34 and q4: 18 a
// block.
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

// The columns [first_column, first_column + columns) of a matrix. A view, as WeightMatrix is.
struct WeightPanel {
  WeightFormat format = WeightFormat::kFp16;
  std::size_t rows = 0;
  std::size_t columns = 0;
  std::size_t first_column = 0;
  const std::byte* data = nullptr;  // [rows * row_bytes()]

  [[nodiscard]] std::size_t row_bytes() const { return weight_row_bytes(format, columns); }
  [[nodiscard]] const std::byte* row(std::size_t index) const { return data + index * row_bytes(); }
};

// A view; the bytes are another's.
struct WeightMatrix {
  WeightFormat format = WeightFormat::kFp16;
  std::size_t rows = 0;
  std::size_t columns = 0;
  const std::byte* data = nullptr;  // [stored_rows * row_bytes()]
  // Rows that lie there: more than `rows` where these are the first ones of a taller matrix. Who
  // changes `rows` later changes this too.
  std::size_t stored_rows = rows;

  [[nodiscard]] std::size_t row_bytes() const { return weight_row_bytes(format, columns); }
  // What a product reads.
  [[nodiscard]] std::size_t bytes() const { return rows * row_bytes(); }
  // At least one; its columns may be 0.
  [[nodiscard]] std::size_t panels() const {
    return columns == 0 ? 1 : (columns + kPanelColumns - 1) / kPanelColumns;
  }
  // REQUIRES: index < panels().
  [[nodiscard]] WeightPanel panel(std::size_t index) const {
    const std::size_t first = index * kPanelColumns;
    const std::size_t before = stored_rows * weight_row_bytes(format, first);
    const std::size_t left = columns - first;
    return {format, rows, left < kPanelColumns ? left : kPanelColumns, first, data + before};
  }
};

// Writes one row of a panel. fp16 rounds to the nearest. A block's scale is the half nearest to its
// largest magnitude / 127 (q8) or / 7 (q4), and its codes are the nearest ones, so that each weight
// is off by at most half a scale; where that is more (scales below 2^-14 are coarse), by 2^-25 *
// 127 or 7. REQUIRES: `row` has weight_row_bytes(format, weights.size()) bytes. InvariantError
// where it has not, or where a weight is not finite or too large for the format (65504 times 1, 127
// or 7).
void encode_row(WeightFormat format, std::span<const float> weights, std::span<std::byte> row);

// The weights that a row of a panel stands for, exactly: code times scale has at most 19 bits.
// REQUIRES: as above.
void decode_row(WeightFormat format, std::span<const std::byte> row, std::span<float> weights);

// A row of a matrix, which lies in all of its panels. Written into memory that is laid out as `w`
// is, out [stored_rows * row_bytes()].
// REQUIRES: row < w.rows, and `weights` has w.columns elements, else InvariantError.
void encode_matrix_row(const WeightMatrix& w, std::size_t row, std::span<const float> weights,
                       std::byte* out);
void decode_matrix_row(const WeightMatrix& w, std::size_t row, std::span<float> weights);

// Fills the rows of such memory with those of `pattern`, of the same format and columns, over and
// over.
void repeat_rows(const WeightMatrix& pattern, const WeightMatrix& w, std::byte* out);

}  // namespace moesim
