// Matrix times vector with weights in fp16: converted exactly, multiplied and added in fp32.
#include "kernels/row_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/half_rows.cpp"
// clang-format off
#include <hwy/foreach_target.h>  // must come before highway.h
#include "kernels/row_kernels-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace moesim {
namespace HWY_NAMESPACE {

struct HalfKernel {
  using D = hn::ScalableTag<float>;
  using V = hn::VFromD<D>;

  // Additions into one sum wait for each other; four sums a row hide that.
  static constexpr std::size_t kSums = 4;
  static constexpr std::size_t kStreams = 2;
  static constexpr std::size_t kMaxLanes = hn::MaxLanes(D());

  std::size_t columns;
  const float* HWY_RESTRICT x;  // [columns]
  bool adds;                    // to what is in y

  template <std::size_t kRows>
  HWY_INLINE void run(const std::byte* HWY_RESTRICT w, std::size_t w_gap, float* HWY_RESTRICT y,
                      std::size_t y_gap) const {
    const D d;
    const std::size_t lanes = hn::Lanes(d);
    V sums[kRows][kSums];
    for (auto& row : sums) {
      for (auto& sum : row) sum = hn::Zero(d);
    }
    std::size_t column = 0;
    for (; column + kSums * lanes <= columns; column += kSums * lanes) {
      for (std::size_t row = 0; row < kRows; ++row) {
        fetch_ahead<kRows>(w + row * w_gap + column * sizeof(Half), kSums * lanes * sizeof(Half));
      }
      for (std::size_t k = 0; k < kSums; ++k) {
        add<kRows>(w, w_gap, column + k * lanes, k, sums);
      }
    }
    for (; column + lanes <= columns; column += lanes) add<kRows>(w, w_gap, column, 0, sums);
    if (column < columns) add_tail<kRows>(w, w_gap, column, sums);
    for (std::size_t row = 0; row < kRows; ++row) {
      const V sum =
          hn::Add(hn::Add(sums[row][0], sums[row][1]), hn::Add(sums[row][2], sums[row][3]));
      put(hn::GetLane(hn::SumOfLanes(d, sum)), adds, y[row * y_gap]);
    }
  }

 private:
  template <std::size_t kRows>
  HWY_INLINE void add(const std::byte* HWY_RESTRICT w, std::size_t w_gap, std::size_t column,
                      std::size_t into, V (&sums)[kRows][kSums]) const {
    const D d;
    const V factor = load_once(d, x + column);
    for (std::size_t row = 0; row < kRows; ++row) {
      const V weights = load_halves(d, w + row * w_gap + column * sizeof(Half));
      sums[row][into] = hn::MulAdd(weights, factor, sums[row][into]);
    }
  }

  // What is left of less than a vector, filled up with zeros: nothing is read past the end.
  template <std::size_t kRows>
  HWY_INLINE void add_tail(const std::byte* HWY_RESTRICT w, std::size_t w_gap, std::size_t column,
                           V (&sums)[kRows][kSums]) const {
    const D d;
    const std::size_t left = columns - column;
    float factors[kMaxLanes] = {};
    std::memcpy(factors, x + column, left * sizeof(float));
    const V factor = hn::LoadU(d, factors);
    for (std::size_t row = 0; row < kRows; ++row) {
      std::byte halves[kMaxLanes * sizeof(Half)] = {};
      std::memcpy(halves, w + row * w_gap + column * sizeof(Half), left * sizeof(Half));
      sums[row][0] = hn::MulAdd(load_halves(d, halves), factor, sums[row][0]);
    }
  }
};

void half_rows_here(const WeightPanel& w, std::size_t first, std::size_t last, const float* x,
                    float* y) {
  run_row_streams(HalfKernel{w.columns, x, w.first_column > 0}, w, first, last, y);
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace moesim
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace moesim {

HWY_EXPORT(half_rows_here);

void half_rows(const WeightPanel& w, std::size_t first, std::size_t last, const float* x,
               float* y) {
  HWY_DYNAMIC_DISPATCH(half_rows_here)(w, first, last, x, y);
}

}  // namespace moesim
#endif  // HWY_ONCE
