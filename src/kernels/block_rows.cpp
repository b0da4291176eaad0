// Matrix times vector with weights in blocks of 32 codes and one scale: within a block codes times
// x is summed in fp32, then the scale multiplies once.
#include "kernels/row_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/block_rows.cpp"
// clang-format off
#include <hwy/foreach_target.h>  // must come before highway.h
#include "kernels/row_kernels-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace moesim {
namespace HWY_NAMESPACE {

// At most 16 lanes: a vector then lies within one half of a block, and 16 floats hold all values
// of a code of four bits.
using BlockD = hn::CappedTag<float, 16>;
using BlockV = hn::VFromD<BlockD>;

// Codes of a block as floats: vector `part` holds those of the weights [part * lanes, ...).
struct Q8Codes {
  static constexpr std::size_t kBytes = kBlockWeights;
  static constexpr std::size_t kStreams = 2;

  HWY_INLINE BlockV load(const std::byte* HWY_RESTRICT codes, std::size_t at) const {
    const BlockD d;
    const hn::Rebind<std::int8_t, BlockD> d_codes;
    const hn::Rebind<std::int32_t, BlockD> d_wide;
    const auto narrow = hn::LoadU(d_codes, reinterpret_cast<const std::int8_t*>(codes) + at);
    return hn::ConvertTo(d, hn::PromoteTo(d_wide, narrow));
  }

  // block sum of codes * x for the weights [at, at + lanes) and [at + 16, at + 16 + lanes).
  HWY_INLINE void load_pair(const std::byte* HWY_RESTRICT codes, std::size_t at, BlockV& low,
                            BlockV& high) const {
    low = load(codes, at);
    high = load(codes, at + kBlockWeights / 2);
  }
};

struct Q4Codes {
  static constexpr std::size_t kBytes = kBlockWeights / 2;
  // Reading x is a large share of the work for so few bytes of weights.
  static constexpr std::size_t kStreams = kManyRegisters ? 4 : 2;

  HWY_INLINE void load_pair(const std::byte* HWY_RESTRICT codes, std::size_t at, BlockV& low,
                            BlockV& high) const {
    const BlockD d;
    const hn::Rebind<std::uint8_t, BlockD> d_codes;
    const hn::Rebind<std::int32_t, BlockD> d_wide;
    const auto narrow = hn::LoadU(d_codes, reinterpret_cast<const std::uint8_t*>(codes) + at);
    const auto both = hn::PromoteTo(d_wide, narrow);
    // Four bits put into the fraction of a float whose last place there is 1: no shift and no
    // conversion, and exact.
    const auto high_bits = hn::OrAnd(hn::Set(d_wide, 0x49000000), both, hn::Set(d_wide, 0xF0));
    high = hn::Sub(hn::BitCast(d, high_bits), hn::Set(d, 0x1p19F + 8));
#if HWY_TARGET == HWY_AVX3
    // A permutation looks at the low four bits alone, so they need no mask. The high ones go the
    // other way, because permutations and products share an execution port.
    alignas(64) static constexpr float kValues[16] = {-8, -7, -6, -5, -4, -3, -2, -1,
                                                      0,  1,  2,  3,  4,  5,  6,  7};
    low = hn::TableLookupLanes(hn::Load(d, kValues), hn::Indices512<float>{both.raw});
#else
    const auto low_bits = hn::OrAnd(hn::Set(d_wide, 0x4B000000), both, hn::Set(d_wide, 0x0F));
    low = hn::Sub(hn::BitCast(d, low_bits), hn::Set(d, 0x1p23F + 8));
#endif
  }
};

template <class Codes>
struct BlockKernel {
  // Scales that are converted at once.
  static constexpr std::size_t kGroup = 16;
  static constexpr std::size_t kStreams = Codes::kStreams;
  static constexpr std::size_t kSums = 2;

  std::size_t columns;
  const float* HWY_RESTRICT x;     // [columns]
  const float* HWY_RESTRICT tail;  // [32] x of the last block, where columns do not fill it
  bool adds;                       // to what is in y
  Codes codes{};

  template <std::size_t kRows>
  HWY_INLINE void run(const std::byte* HWY_RESTRICT w, std::size_t w_gap, float* HWY_RESTRICT y,
                      std::size_t y_gap) const {
    const BlockD d;
    const std::size_t full = columns / kBlockWeights;
    const std::size_t blocks = (columns + kBlockWeights - 1) / kBlockWeights;
    const std::byte* HWY_RESTRICT w_codes = w + blocks * sizeof(Half);
    BlockV sums[kRows][kSums];
    for (auto& row : sums) {
      for (auto& sum : row) sum = hn::Zero(d);
    }
    float scales[kRows][kGroup];
    for (std::size_t group = 0; group < blocks; group += kGroup) {
      load_scales<kRows>(w, w_gap, group, blocks, scales);
      for (std::size_t row = 0; row < kRows; ++row) {
        fetch_ahead<kRows>(w + row * w_gap + group * sizeof(Half), 1);
        fetch_ahead<kRows>(w_codes + row * w_gap + group * Codes::kBytes, kGroup * Codes::kBytes);
      }
      const std::size_t end = HWY_MIN(group + kGroup, full);
      std::size_t block = group;
      for (; block + kSums <= end; block += kSums) {
        for (std::size_t k = 0; k < kSums; ++k) {
          add<kRows>(w_codes, w_gap, block + k, x + (block + k) * kBlockWeights, k,
                     block + k - group, scales, sums);
        }
      }
      if (block < end) {
        add<kRows>(w_codes, w_gap, block, x + block * kBlockWeights, 0, block - group, scales,
                   sums);
      }
    }
    if (full < blocks) {
      add<kRows>(w_codes, w_gap, full, tail, 0, full % kGroup, scales, sums);
    }
    for (std::size_t row = 0; row < kRows; ++row) {
      const float sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(sums[row][0], sums[row][1])));
      put(sum, adds, y[row * y_gap]);
    }
  }

 private:
  template <std::size_t kRows>
  HWY_INLINE void load_scales(const std::byte* HWY_RESTRICT w, std::size_t w_gap, std::size_t group,
                              std::size_t blocks, float (&scales)[kRows][kGroup]) const {
    const BlockD d;
    const std::size_t lanes = hn::Lanes(d);
    // Of the last group more is read than scales, where the codes behind them are enough for that.
    const std::size_t row_bytes = blocks * (sizeof(Half) + Codes::kBytes);
    const bool short_row = (group + kGroup) * sizeof(Half) > row_bytes;
    for (std::size_t row = 0; row < kRows; ++row) {
      const std::byte* from = w + row * w_gap + group * sizeof(Half);
      std::byte filled[kGroup * sizeof(Half)] = {};
      if (short_row) {
        std::memcpy(filled, from, (blocks - group) * sizeof(Half));
        from = filled;
      }
      for (std::size_t i = 0; i < kGroup; i += lanes) {
        hn::StoreU(load_halves(d, from + i * sizeof(Half)), d, scales[row] + i);
      }
    }
  }

  template <std::size_t kRows>
  HWY_INLINE void add(const std::byte* HWY_RESTRICT w_codes, std::size_t w_gap, std::size_t block,
                      const float* HWY_RESTRICT factors, std::size_t into, std::size_t scale,
                      const float (&scales)[kRows][kGroup], BlockV (&sums)[kRows][kSums]) const {
    const BlockD d;
    const std::size_t lanes = hn::Lanes(d);
    BlockV of_block[kRows];
    for (auto& sum : of_block) sum = hn::Zero(d);
    for (std::size_t at = 0; at < kBlockWeights / 2; at += lanes) {
      const BlockV low_factor = load_once(d, factors + at);
      const BlockV high_factor = load_once(d, factors + kBlockWeights / 2 + at);
      for (std::size_t row = 0; row < kRows; ++row) {
        BlockV low;
        BlockV high;
        codes.load_pair(w_codes + row * w_gap + block * Codes::kBytes, at, low, high);
        of_block[row] = hn::MulAdd(low, low_factor, of_block[row]);
        of_block[row] = hn::MulAdd(high, high_factor, of_block[row]);
      }
    }
    for (std::size_t row = 0; row < kRows; ++row) {
      sums[row][into] = hn::MulAdd(hn::Set(d, scales[row][scale]), of_block[row], sums[row][into]);
    }
  }
};

template <class Codes>
HWY_INLINE void block_rows(const WeightPanel& w, std::size_t first, std::size_t last,
                           const float* x, float* y) {
  float tail[kBlockWeights] = {};
  const std::size_t full = w.columns / kBlockWeights * kBlockWeights;
  if (full < w.columns) std::memcpy(tail, x + full, (w.columns - full) * sizeof(float));
  run_row_streams(BlockKernel<Codes>{w.columns, x, tail, w.first_column > 0}, w, first, last, y);
}

void q8_rows_here(const WeightPanel& w, std::size_t first, std::size_t last, const float* x,
                  float* y) {
  block_rows<Q8Codes>(w, first, last, x, y);
}

void q4_rows_here(const WeightPanel& w, std::size_t first, std::size_t last, const float* x,
                  float* y) {
  block_rows<Q4Codes>(w, first, last, x, y);
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace moesim
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace moesim {

HWY_EXPORT(q8_rows_here);
HWY_EXPORT(q4_rows_here);

void q8_rows(const WeightPanel& w, std::size_t first, std::size_t last, const float* x, float* y) {
  HWY_DYNAMIC_DISPATCH(q8_rows_here)(w, first, last, x, y);
}

void q4_rows(const WeightPanel& w, std::size_t first, std::size_t last, const float* x, float* y) {
  HWY_DYNAMIC_DISPATCH(q4_rows_here)(w, first, last, x, y);
}

}  // namespace moesim
#endif  // HWY_ONCE
