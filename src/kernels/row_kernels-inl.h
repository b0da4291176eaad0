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

// How far ahead of its use weights are fetched, all streams together. Measured: with half or double
// of it products are slower.
inline constexpr std::size_t kAhead = 8192;

// Asks for the cache lines of `bytes` bytes in one of `kStreams` streams, ahead of `at`. Past the
// end of the weights this has no effect, so the address is worked out as a number.
template <std::size_t kStreams>
HWY_INLINE void fetch_ahead(const std::byte* at, std::size_t bytes) {
  const auto address = reinterpret_cast<std::uintptr_t>(at) + kAhead / kStreams;
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

// Floats that several instructions use. Compilers for x86 would rather read them again in each of
// those, and reads are what the kernels run short of.
template <class D>
HWY_INLINE hn::VFromD<D> load_once(D d, const float* HWY_RESTRICT from) {
  hn::VFromD<D> values = hn::LoadU(d, from);
#if HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR && !HWY_COMPILER_MSVC
  asm("" : "+v"(values.raw));
#endif
  return values;
}

// Whether there are registers for the sums of four rows.
inline constexpr bool kManyRegisters = HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON;

// A row's sum over one panel; over the first one it replaces what is in y, else it is added.
HWY_INLINE void put(float sum, bool adds, float& y) { y = adds ? y + sum : sum; }

// The rows [first, last) as `kStreams` streams, each through its own part of the range: a stream
// reads on without a jump, which is what prefetchers in hardware follow, and all share what is
// loaded of x. Neighbouring rows as streams would jump at the end of each row.
// kernel.run<streams>(first stream, bytes to the next, its result, distance to that of the next).
template <class Kernel>
HWY_INLINE void run_row_streams(const Kernel& kernel, const WeightPanel& w, std::size_t first,
                                std::size_t last, float* HWY_RESTRICT y) {
  constexpr std::size_t kStreams = Kernel::kStreams;
  const std::size_t part = (last - first) / kStreams;
  const std::size_t stride = w.row_bytes();
  std::size_t row = first;
  for (; row < first + part; ++row) {
    kernel.template run<kStreams>(w.row(row), part * stride, y + row, part);
  }
  for (row = first + kStreams * part; row < last; ++row) {
    kernel.template run<1>(w.row(row), 0, y + row, 0);
  }
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace moesim
HWY_AFTER_NAMESPACE();

#endif  // toggled guard
