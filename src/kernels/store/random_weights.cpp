#include "kernels/store/random_weights.h"

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels/half.h"

namespace moesim {
namespace {

constexpr unsigned kStepBits = 12;
constexpr std::size_t kSteps = std::size_t{1} << kStepBits;
using StepTable = std::array<Half, kSteps>;

// The odd multiples of limit / 4096, whose variance is limit^2 / 3: a table of 8 KiB, which stays
// in the first-level cache, makes four weights of a random word in a nanosecond or two.
StepTable step_table(std::size_t columns) {
  const double limit = std::sqrt(3.0 / static_cast<double>(columns));
  StepTable table{};
  for (std::size_t i = 0; i < kSteps; ++i) {
    const double odd = 2 * static_cast<double>(i) + 1 - double{kSteps};
    table[i] = float_to_half(static_cast<float>(limit * odd / double{kSteps}));
  }
  return table;
}

void fill_halves(std::size_t count, std::size_t columns, Rng& rng, std::byte* out) {
  const StepTable table = step_table(columns);
  for (std::size_t i = 0; i < count; i += 4) {
    const std::uint64_t word = rng.next();
    const std::array four{table[word >> 52], table[(word >> 36) % kSteps],
                          table[(word >> 20) % kSteps], table[(word >> 4) % kSteps]};
    const std::size_t here = count - i < 4 ? count - i : 4;
    std::memcpy(out + i * sizeof(Half), four.data(), here * sizeof(Half));
  }
}

// The highest bit of each field of `word` that is 0, where `highest` has that of every field.
constexpr std::uint64_t empty_fields(std::uint64_t word, std::uint64_t highest) {
  const std::uint64_t others = ~highest;
  return ~(((word & others) + others) | word | others);
}

struct BlockCodes {
  std::size_t bytes;  // of a block
  double variance;    // of a code: the sum of squares over 256 or 16 equally likely fields
  std::uint64_t (*valid)(std::uint64_t);
};

BlockCodes block_codes(WeightFormat format) {
  if (format == WeightFormat::kQ8) {  // Bytes; -128, which is no code, becomes 0.
    return {kBlockWeights, 2.0 * 127 * 128 * 255 / 6 / 256, [](std::uint64_t word) {
              constexpr std::uint64_t kHighest = 0x8080808080808080U;
              return word ^ empty_fields(word ^ kHighest, kHighest);
            }};
  }
  // Four bits of code + 8; -8, which is no code, becomes 0.
  return {kBlockWeights / 2, 2.0 * 7 * 8 * 15 / 6 / 16,
          [](std::uint64_t word) { return word | empty_fields(word, 0x8888888888888888U); }};
}

// Sets the codes of a row's last block behind its first `used` weights to 0.
void clear_rest(WeightFormat format, std::size_t used, std::byte* codes) {
  for (std::size_t i = used; i < kBlockWeights; ++i) {
    if (format == WeightFormat::kQ8) {
      codes[i] = std::byte{0};
    } else if (i < 16) {
      codes[i] = (codes[i] & std::byte{0xF0}) | std::byte{0x08};
    } else {
      codes[i - 16] = (codes[i - 16] & std::byte{0x0F}) | std::byte{0x80};
    }
  }
}

// The rows of a panel of `columns` columns at `out`; where they end.
std::byte* fill_panel(const WeightMatrix& w, std::size_t columns, Rng& rng, std::byte* out) {
  const BlockCodes codes = block_codes(w.format);
  const std::size_t blocks = (columns + kBlockWeights - 1) / kBlockWeights;
  const Half scale = float_to_half(
      static_cast<float>(std::sqrt(1.0 / (static_cast<double>(w.columns) * codes.variance))));
  for (std::size_t row = 0; row < w.rows; ++row) {
    for (std::size_t i = 0; i < blocks; ++i, out += sizeof scale) {
      std::memcpy(out, &scale, sizeof scale);
    }
    const std::byte* const end = out + blocks * codes.bytes;
    for (; out != end; out += sizeof(std::uint64_t)) {
      const std::uint64_t word = codes.valid(rng.next());
      std::memcpy(out, &word, sizeof word);
    }
    if (const std::size_t used = columns % kBlockWeights; used != 0) {
      clear_rest(w.format, used, out - codes.bytes);
    }
  }
  return out;
}

}  // namespace

void fill_random_weights(WeightFormat format, std::size_t rows, std::size_t columns, Rng& rng,
                         std::byte* out) {
  if (format == WeightFormat::kFp16) return fill_halves(rows * columns, columns, rng, out);
  const WeightMatrix w{format, rows, columns, out};
  for (std::size_t i = 0; i < w.panels(); ++i) out = fill_panel(w, w.panel(i).columns, rng, out);
}

}  // namespace moesim
