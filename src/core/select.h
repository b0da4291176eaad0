// The k best of a row, best first, and the scores that reach a bound. Equal scores rank by lower
// index, so that the choice depends on nothing but the input.
//
// Rows are long, few scores matter, and which ones cannot be guessed: everything here compares
// whole rows without branches and walks over the few set bits that are left.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <type_traits>

namespace moesim {

namespace select_detail {

// Four scores at once; GCC and Clang turn these into whatever the machine has.
template <class Score>
struct Four;
template <>
struct Four<float> {
  using Vector __attribute__((vector_size(16))) = float;
  using Mask __attribute__((vector_size(16))) = std::int32_t;
};
template <>
struct Four<double> {
  using Vector __attribute__((vector_size(32))) = double;
  using Mask __attribute__((vector_size(32))) = std::int64_t;
};

inline constexpr std::size_t kLanes = 16;
inline constexpr std::size_t kVectors = kLanes / 4;

template <class Score>
using Sixteen = std::array<typename Four<Score>::Vector, kVectors>;

template <class Score>
void load(const Score* from, typename Four<Score>::Vector& to) {
  std::memcpy(&to, from, sizeof(to));
}

// Bit i is set where score i of sixteen reaches the bound.
template <class Score>
std::uint64_t reaching(const Score* scores, const typename Four<Score>::Vector& bounds) {
  using Mask = typename Four<Score>::Mask;
  Mask bits{};
  for (int v = 0; v < static_cast<int>(kVectors); ++v) {
    typename Four<Score>::Vector four;
    load(scores + 4 * v, four);
    bits |= (four >= bounds) & (Mask{1, 2, 4, 8} << (4 * v));
  }
  return static_cast<std::uint64_t>(bits[0] | bits[1] | bits[2] | bits[3]);
}

// For each of sixteen scores, how many of them rank before it: those larger, and those equal with a
// lower index. That many places down is where it belongs.
template <class Score>
std::array<std::uint8_t, kLanes> places(const std::array<Score, kLanes>& scores) {
  using Vector = typename Four<Score>::Vector;
  using Mask = typename Four<Score>::Mask;
  Sixteen<Score> own;
  std::array<Mask, kVectors> before{};
  for (std::size_t v = 0; v < kVectors; ++v) load(&scores[4 * v], own[v]);
  for (std::size_t other = 0; other < kLanes; ++other) {
    const Score score = scores[other];
    const Vector rival = {score, score, score, score};
    for (std::size_t v = 0; v < kVectors; ++v) {
      const auto first = static_cast<decltype(before[0][0] + 0)>(4 * v);
      const auto at = static_cast<decltype(first)>(other);
      const Mask index = {first, first + 1, first + 2, first + 3};
      const Mask lower = Mask{at, at, at, at} < index;
      before[v] -= (rival > own[v]) | ((rival == own[v]) & lower);  // true is -1
    }
  }
  std::array<std::uint8_t, kLanes> result;
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    result[lane] = static_cast<std::uint8_t>(before[lane / 4][lane % 4]);
  }
  return result;
}

// The k-th largest of the maxima of sixteen interleaved parts of the row: at least k scores reach
// it. REQUIRES: 0 < k <= 16 <= scores.size().
template <class Score>
Score lower_bound_of_kth(std::span<const Score> scores, std::size_t k) {
  Sixteen<Score> largest;
  for (std::size_t v = 0; v < kVectors; ++v) load(&scores[4 * v], largest[v]);
  const std::size_t whole = scores.size() - scores.size() % kLanes;
  for (std::size_t i = kLanes; i < whole; i += kLanes) {
    for (std::size_t v = 0; v < kVectors; ++v) {
      typename Four<Score>::Vector next;
      load(&scores[i + 4 * v], next);
      largest[v] = next > largest[v] ? next : largest[v];
    }
  }
  std::array<Score, kLanes> maxima;
  std::memcpy(maxima.data(), largest.data(), sizeof(maxima));
  const std::array<std::uint8_t, kLanes> place = places(maxima);
  std::array<Score, kLanes> ordered;
  for (std::size_t lane = 0; lane < kLanes; ++lane) ordered[place[lane]] = maxima[lane];
  return ordered[k - 1];
}

// Puts index `i` where it belongs among the `held` best so far. Returns how many are held then.
template <class Score, class Index>
std::size_t insert(std::span<const Score> scores, std::span<Index> best, std::size_t held,
                   std::size_t i) {
  const Score score = scores[i];
  const std::size_t k = best.size();
  if (held == k && !(score > scores[static_cast<std::size_t>(best[k - 1])])) return held;
  std::size_t place = held < k ? held : k - 1;
  while (place > 0 && score > scores[static_cast<std::size_t>(best[place - 1])]) {
    best[place] = best[place - 1];
    --place;
  }
  best[place] = static_cast<Index>(i);
  return held < k ? held + 1 : held;
}

// Puts the k best of at most sixteen candidates in order. REQUIRES: k <= count.
template <class Score, class Index>
void order_few(std::span<const Score> scores, std::span<const std::uint32_t> candidates,
               std::span<Index> out) {
  std::array<Score, kLanes> few;
  few.fill(-std::numeric_limits<Score>::infinity());
  for (std::size_t c = 0; c < candidates.size(); ++c) few[c] = scores[candidates[c]];
  const std::array<std::uint8_t, kLanes> place = places(few);
  std::array<Index, kLanes> ordered;
  for (std::size_t c = 0; c < candidates.size(); ++c) {
    ordered[place[c]] = static_cast<Index>(candidates[c]);
  }
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = ordered[i];
}

}  // namespace select_detail

// Which of the up to 64 scores from `base` on reach the bound: bit i is score base + i.
template <class Score>
std::uint64_t word_at_least(std::span<const Score> scores, Score bound, std::size_t base) {
  const typename select_detail::Four<Score>::Vector bounds = {bound, bound, bound, bound};
  const std::size_t end = scores.size() - base < 64 ? scores.size() - base : 64;
  const std::size_t whole = end - end % select_detail::kLanes;
  std::uint64_t word = 0;
  for (std::size_t i = 0; i < whole; i += select_detail::kLanes) {
    word |= select_detail::reaching(&scores[base + i], bounds) << i;
  }
  for (std::size_t i = whole; i < end; ++i) {
    word |= static_cast<std::uint64_t>(scores[base + i] >= bound) << i;
  }
  return word;
}

// Calls found(i) for every set bit, in increasing order; i counts from `base`.
template <class Found>
void for_each_bit(std::uint64_t word, std::size_t base, Found&& found) {
  for (; word != 0; word &= word - 1) {
    found(base + static_cast<std::size_t>(std::countr_zero(word)));
  }
}

// Writes the indices of the out.size() largest scores into `out`, largest first.
// REQUIRES: out.size() <= scores.size(); no score is NaN.
template <class Score, class Index>
void select_top_k(std::span<const Score> scores, std::span<Index> out) {
  const std::size_t k = out.size();
  if (k == 0) return;
  std::size_t held = 0;
  const auto take = [&](std::size_t i) { held = select_detail::insert(scores, out, held, i); };
  if constexpr (std::is_floating_point_v<Score>) {
    if (k <= select_detail::kLanes && scores.size() >= 2 * select_detail::kLanes) {
      const Score bound = select_detail::lower_bound_of_kth(scores, k);
      std::array<std::uint32_t, select_detail::kLanes> few;
      std::size_t count = 0;
      for (std::size_t base = 0; base < scores.size(); base += 64) {
        for_each_bit(word_at_least(scores, bound, base), base, [&](std::size_t i) {
          if (count < few.size()) few[count] = static_cast<std::uint32_t>(i);
          ++count;
        });
      }
      if (count <= few.size()) {
        select_detail::order_few(scores, std::span<const std::uint32_t>(few).first(count), out);
        return;
      }
    }
  }
  for (std::size_t i = 0; i < scores.size(); ++i) take(i);
}

}  // namespace moesim
