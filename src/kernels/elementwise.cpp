// The activation of the expert FFN, and the plain sum that measures how fast memory can be read.
#include "kernels/row_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/elementwise.cpp"
// clang-format off
#include <hwy/foreach_target.h>  // must come before highway.h
#include <hwy/contrib/math/math-inl.h>
#include "kernels/row_kernels-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace moesim {
namespace HWY_NAMESPACE {

// exp(88) is finite; below -88 silu is less than 1e-36 in magnitude, and stays so here.
template <class D, class V = hn::VFromD<D>>
HWY_INLINE V gated(D d, V gate, V up) {
  const V exponent = hn::Min(hn::Neg(gate), hn::Set(d, 88.0F));
  const V silu = hn::Div(gate, hn::Add(hn::Set(d, 1.0F), hn::Exp(d, exponent)));
  return hn::Mul(silu, up);
}

void swiglu_here(float* HWY_RESTRICT gate, const float* HWY_RESTRICT up, std::size_t count) {
  const hn::ScalableTag<float> d;
  const std::size_t lanes = hn::Lanes(d);
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    hn::StoreU(gated(d, hn::LoadU(d, gate + i), hn::LoadU(d, up + i)), d, gate + i);
  }
  if (i == count) return;
  float gates[hn::MaxLanes(d)] = {};
  float ups[hn::MaxLanes(d)] = {};
  const std::size_t bytes = (count - i) * sizeof(float);
  std::memcpy(gates, gate + i, bytes);
  std::memcpy(ups, up + i, bytes);
  hn::StoreU(gated(d, hn::LoadU(d, gates), hn::LoadU(d, ups)), d, gates);
  std::memcpy(gate + i, gates, bytes);
}

std::uint64_t sum_words_here(const std::byte* data, std::size_t words) {
  const hn::ScalableTag<std::uint64_t> d;
  using V = hn::VFromD<decltype(d)>;
  const std::size_t lanes = hn::Lanes(d);
  const auto load = [&](std::size_t word) HWY_ATTR {
    const std::byte* from = data + word * sizeof(std::uint64_t);
#if HWY_TARGET == HWY_SCALAR
    std::uint64_t value;
    std::memcpy(&value, from, sizeof value);
    return hn::Set(d, value);
#else
    const hn::Repartition<std::uint8_t, decltype(d)> d_bytes;
    return hn::BitCast(d, hn::LoadU(d_bytes, reinterpret_cast<const std::uint8_t*>(from)));
#endif
  };
  V sums[4] = {hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d)};
  std::size_t word = 0;
  for (; word + 4 * lanes <= words; word += 4 * lanes) {
    for (std::size_t k = 0; k < 4; ++k) sums[k] = hn::Add(sums[k], load(word + k * lanes));
  }
  // Lane by lane: the vector sum of GCC's header overflows in signed arithmetic.
  std::uint64_t lanes_of_sum[hn::MaxLanes(d)] = {};
  hn::StoreU(hn::Add(hn::Add(sums[0], sums[1]), hn::Add(sums[2], sums[3])), d, lanes_of_sum);
  std::uint64_t total = 0;
  for (const std::uint64_t lane : lanes_of_sum) total += lane;
  for (; word < words; ++word) {
    std::uint64_t value;
    std::memcpy(&value, data + word * sizeof value, sizeof value);
    total += value;
  }
  return total;
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace moesim
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace moesim {

HWY_EXPORT(swiglu_here);
HWY_EXPORT(sum_words_here);

void swiglu(float* gate, const float* up, std::size_t count) {
  HWY_DYNAMIC_DISPATCH(swiglu_here)(gate, up, count);
}

std::uint64_t sum_words(const std::byte* data, std::size_t words) {
  return HWY_DYNAMIC_DISPATCH(sum_words_here)(data, words);
}

}  // namespace moesim
#endif  // HWY_ONCE
