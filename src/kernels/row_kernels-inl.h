// Shared by the files that Highway compiles once for each set of vector instructions. The guard
// flips with the set, so the text is seen anew for each.
#if defined(MOESIM_KERNELS_ROW_KERNELS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef MOESIM_KERNELS_ROW_KERNELS_INL_H
#undef MOESIM_KERNELS_ROW_KERNELS_INL_H
#else
#define MOESIM_KERNELS_ROW_KERNELS_INL_H
#endif

#include <hwy/highway.h>

#include <cstddef>
#include <cstring>

#include "kernels/half.h"
#include "kernels/weight_matrix.h"

HWY_BEFORE_NAMESPACE();
namespace moesim {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

inline constexpr std::size_t kCacheLine = 64;

// How far ahead of its use a stream of weights is fetched. Measured with two streams: 2 and 8 KiB
// are slower, most of all where x does not fit into the first-level cache (docs/kernels.md).
inline constexpr std::size_t kAhead = 4096;

// Asks for the cache lines of `bytes` bytes at kAhead behind `at`. Past the end of the weights this
// has no effect, so the address is worked out as a number.
HWY_INLINE void fetch_ahead(const std::byte* at, std::size_t bytes) {
  const auto address = reinterpret_cast<std::uintptr_t>(at) + kAhead;
  for (std::size_t offset = 0; offset < bytes; offset += kCacheLine) {
    __builtin_prefetch(reinterpret_cast<const void*>(address + offset));  // NOLINT
  }
}

// As many halves as `d` has lanes, from any address, as floats.
template <class D>
HWY_INLINE hn::VFromD<D> load_halves(D d, const std::byte* from) {
#if HWY_TARGET == HWY_SCALAR
  Half half;
  std::memcpy(&half, from, sizeof half);
  return hn::Set(d, half_to_float(half));
#else
  const hn::Rebind<hwy::float16_t, D> d_half;
  const hn::Repartition<std::uint8_t, decltype(d_half)> d_bytes;
  const auto bytes = hn::LoadU(d_bytes, reinterpret_cast<const std::uint8_t*>(from));
  return hn::PromoteTo(d, hn::BitCast(d_half, bytes));
#endif
}

// The rows [first, last) as two streams, one through each half of the range: each reads on without
// a jump, which is what prefetchers in hardware follow, and both share what is loaded of x.
// Neighbouring rows as streams would jump at the end of each row. Dot: kernel.run<streams>(first
// row of the first stream, bytes to that of the next, its result, distance to that of the next).
template <class Kernel>
HWY_INLINE void run_row_streams(const Kernel& kernel, const WeightMatrix& w, std::size_t first,
                                std::size_t last, float* HWY_RESTRICT y) {
  const std::size_t half = (last - first) / 2;
  const std::size_t stride = w.row_bytes();
  for (std::size_t row = first; row < first + half; ++row) {
    kernel.template run<2>(w.row(row), half * stride, y + row, half);
  }
  if (first + 2 * half < last) kernel.template run<1>(w.row(last - 1), 0, y + last - 1, 0);
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace moesim
HWY_AFTER_NAMESPACE();

#endif  // toggled guard
