#include "kernels/weight_matrix.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "core/errors.h"
#include "kernels/half.h"

namespace moesim {
namespace {

static_assert(std::endian::native == std::endian::little, "rows are stored little-endian");

constexpr float kLargestHalf = 65504;

void put_half(std::span<std::byte> row, std::size_t index, Half half) {
  std::memcpy(row.subspan(index * sizeof half, sizeof half).data(), &half, sizeof half);
}

Half get_half(std::span<const std::byte> row, std::size_t index) {
  Half half{};
  std::memcpy(&half, row.subspan(index * sizeof half, sizeof half).data(), sizeof half);
  return half;
}

void require_row(WeightFormat format, std::size_t columns, std::size_t bytes) {
  if (bytes != weight_row_bytes(format, columns)) {
    throw InvariantError("a row of weights has another size than its format wants");
  }
}

WeightMatrix with_data(const WeightMatrix& w, const std::byte* data) {
  return {w.format, w.rows, w.columns, data, w.stored_rows};
}

// Where a row begins in `out`, the memory that the panel views.
std::byte* row_in(std::byte* out, const WeightPanel& panel, std::size_t row) {
  return out + (panel.row(row) - out);
}

void require_columns(const WeightMatrix& w, std::size_t columns) {
  if (columns != w.columns) throw InvariantError("a matrix has another number of columns");
}

void require_place(const WeightMatrix& w, std::size_t row, std::size_t columns) {
  require_columns(w, columns);
  if (row >= w.rows) throw InvariantError("a matrix does not have that row");
}

float largest_magnitude(std::span<const float> weights) {
  float largest = 0;
  for (const float weight : weights) {
    if (!std::isfinite(weight)) throw InvariantError("a weight is not finite");
    largest = std::max(largest, std::abs(weight));
  }
  return largest;
}

void encode_halves(std::span<const float> weights, std::span<std::byte> row) {
  if (largest_magnitude(weights) > kLargestHalf) {
    throw InvariantError("a weight is too large for fp16");
  }
  for (std::size_t i = 0; i < weights.size(); ++i) put_half(row, i, float_to_half(weights[i]));
}

// Blocks of a row: where each has its scale and codes.
struct Blocks {
  WeightFormat format;
  std::size_t count;

  [[nodiscard]] int largest_code() const { return format == WeightFormat::kQ8 ? 127 : 7; }
  [[nodiscard]] std::size_t code_bytes() const {
    return format == WeightFormat::kQ8 ? kBlockWeights : kBlockWeights / 2;
  }
  [[nodiscard]] std::size_t codes_at(std::size_t block) const {
    return count * sizeof(Half) + block * code_bytes();
  }
};

Blocks blocks_of(WeightFormat format, std::size_t columns) {
  return {format, (columns + kBlockWeights - 1) / kBlockWeights};
}

int code_of(float weight, float scale, int largest) {
  if (scale == 0) return 0;
  const double code = std::nearbyint(static_cast<double>(weight) / static_cast<double>(scale));
  return static_cast<int>(
      std::clamp(code, static_cast<double>(-largest), static_cast<double>(largest)));
}

void encode_block(const Blocks& blocks, std::size_t block, std::span<const float> weights,
                  std::span<std::byte> row) {
  const int largest = blocks.largest_code();
  const float exact = largest_magnitude(weights) / static_cast<float>(largest);
  if (exact > kLargestHalf) throw InvariantError("a weight is too large for its block format");
  const Half half = float_to_half(exact);
  put_half(row, block, half);
  std::array<int, kBlockWeights> codes{};
  for (std::size_t i = 0; i < weights.size(); ++i) {
    codes[i] = code_of(weights[i], half_to_float(half), largest);
  }
  const auto out = row.subspan(blocks.codes_at(block), blocks.code_bytes());
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = blocks.format == WeightFormat::kQ8
                 ? static_cast<std::byte>(codes[i])
                 : static_cast<std::byte>((codes[i] + 8) | ((codes[i + 16] + 8) << 4));
  }
}

void decode_block(const Blocks& blocks, std::size_t block, std::span<const std::byte> row,
                  std::span<float> weights) {
  const float scale = half_to_float(get_half(row, block));
  const auto codes = row.subspan(blocks.codes_at(block), blocks.code_bytes());
  for (std::size_t i = 0; i < weights.size(); ++i) {
    int code = 0;
    if (blocks.format == WeightFormat::kQ8) {
      const auto bits = std::to_integer<int>(codes[i]);
      code = bits < 128 ? bits : bits - 256;
    } else {
      const auto both = std::to_integer<int>(codes[i % 16]);
      code = (i < 16 ? both & 15 : both >> 4) - 8;
    }
    weights[i] = scale * static_cast<float>(code);
  }
}

// Calls visit(block, first column, columns) for each block.
template <class Visit>
void for_each_block(std::size_t columns, Visit visit) {
  for (std::size_t first = 0; first < columns; first += kBlockWeights) {
    visit(first / kBlockWeights, first, std::min(kBlockWeights, columns - first));
  }
}

}  // namespace

std::string_view weight_format_name(WeightFormat format) {
  switch (format) {
    case WeightFormat::kFp16:
      return "fp16";
    case WeightFormat::kQ8:
      return "q8";
    case WeightFormat::kQ4:
      return "q4";
  }
  throw InvariantError("unknown weight format");
}

void encode_row(WeightFormat format, std::span<const float> weights, std::span<std::byte> row) {
  require_row(format, weights.size(), row.size());
  if (format == WeightFormat::kFp16) return encode_halves(weights, row);
  const Blocks blocks = blocks_of(format, weights.size());
  for_each_block(weights.size(), [&](std::size_t block, std::size_t first, std::size_t count) {
    encode_block(blocks, block, weights.subspan(first, count), row);
  });
}

void decode_row(WeightFormat format, std::span<const std::byte> row, std::span<float> weights) {
  require_row(format, weights.size(), row.size());
  if (format == WeightFormat::kFp16) {
    for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = half_to_float(get_half(row, i));
    return;
  }
  const Blocks blocks = blocks_of(format, weights.size());
  for_each_block(weights.size(), [&](std::size_t block, std::size_t first, std::size_t count) {
    decode_block(blocks, block, row, weights.subspan(first, count));
  });
}

void encode_matrix_row(const WeightMatrix& w, std::size_t row, std::span<const float> weights,
                       std::byte* out) {
  require_place(w, row, weights.size());
  const WeightMatrix written = with_data(w, out);
  for (std::size_t i = 0; i < w.panels(); ++i) {
    const WeightPanel panel = written.panel(i);
    encode_row(w.format, weights.subspan(panel.first_column, panel.columns),
               {row_in(out, panel, row), panel.row_bytes()});
  }
}

void decode_matrix_row(const WeightMatrix& w, std::size_t row, std::span<float> weights) {
  require_place(w, row, weights.size());
  for (std::size_t i = 0; i < w.panels(); ++i) {
    const WeightPanel panel = w.panel(i);
    decode_row(w.format, {panel.row(row), panel.row_bytes()},
               weights.subspan(panel.first_column, panel.columns));
  }
}

void repeat_rows(const WeightMatrix& pattern, const WeightMatrix& w, std::byte* out) {
  if (pattern.format != w.format) throw InvariantError("a pattern has another format");
  require_columns(w, pattern.columns);
  const WeightMatrix written = with_data(w, out);
  for (std::size_t i = 0; i < w.panels(); ++i) {
    const WeightPanel from = pattern.panel(i);
    const WeightPanel to = written.panel(i);
    for (std::size_t row = 0; row < w.rows; ++row) {
      std::memcpy(row_in(out, to, row), from.row(row % pattern.rows), to.row_bytes());
    }
  }
}

}  // namespace moesim
