// The k best of a row, best first, and the scores that reach a bound. Equal scores rank by lower
// index, so that the choice depends on nothing but the input.
//
// Rows are long and few scores matter, so both look at four scores at a time and skip what cannot.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
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

template <class Score>
void load(const Score* from, typename Four<Score>::Vector& to) {
  std::memcpy(&to, from, sizeof(to));
}

// True when any of the four is set.
template <class Mask>
bool any(const Mask& mask) {
  std::array<std::uint64_t, sizeof(Mask) / 8> words;
  std::memcpy(words.data(), &mask, sizeof(mask));
  std::uint64_t all = 0;
  for (const std::uint64_t word : words) all |= word;
  return all != 0;
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

inline constexpr std::size_t kLanes = 16;

// The largest scores of kLanes interleaved parts of the row; what is left over at the end of the
// row is not in them. REQUIRES: kLanes <= scores.size().
template <class Score>
std::array<Score, kLanes> largest_by_lane(std::span<const Score> scores) {
  using Vector = typename Four<Score>::Vector;
  std::array<Vector, kLanes / 4> largest;
  for (std::size_t v = 0; v < largest.size(); ++v) load(&scores[4 * v], largest[v]);
  const std::size_t whole = scores.size() - scores.size() % kLanes;
  for (std::size_t i = kLanes; i < whole; i += kLanes) {
    for (std::size_t v = 0; v < largest.size(); ++v) {
      Vector next;
      load(&scores[i + 4 * v], next);
      largest[v] = next > largest[v] ? next : largest[v];
    }
  }
  std::array<Score, kLanes> result;
  std::memcpy(result.data(), largest.data(), sizeof(result));
  return result;
}

// The k-th largest of those: at least k scores of the row reach it. REQUIRES: 0 < k <= kLanes.
template <class Score>
Score lower_bound_of_kth(std::span<const Score> scores, std::size_t k) {
  const std::array<Score, kLanes> largest = largest_by_lane(scores);
  std::array<std::uint8_t, kLanes> best;
  std::size_t held = 0;
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    held = insert(std::span<const Score>(largest), std::span(best).first(k), held, lane);
  }
  return largest[best[k - 1]];
}

}  // namespace select_detail

// Calls found(i) for every index whose score is at least `bound`, in increasing order.
template <class Score, class Found>
void for_each_at_least(std::span<const Score> scores, Score bound, Found&& found) {
  using Vector = typename select_detail::Four<Score>::Vector;
  const Vector bounds = {bound, bound, bound, bound};
  const std::size_t whole = scores.size() - scores.size() % 4;
  for (std::size_t i = 0; i < whole; i += 4) {
    Vector four;
    select_detail::load(&scores[i], four);
    if (!select_detail::any(four >= bounds)) continue;
    for (std::size_t j = i; j < i + 4; ++j) {
      if (scores[j] >= bound) found(j);
    }
  }
  for (std::size_t i = whole; i < scores.size(); ++i) {
    if (scores[i] >= bound) found(i);
  }
}

// Writes the indices of the out.size() largest scores into `out`, largest first. Long rows are
// first cut down to the few scores that can be among the best.
// REQUIRES: out.size() <= scores.size(); no score is NaN.
template <class Score, class Index>
void select_top_k(std::span<const Score> scores, std::span<Index> out) {
  const std::size_t k = out.size();
  if (k == 0) return;
  std::size_t held = 0;
  const auto take = [&](std::size_t i) { held = select_detail::insert(scores, out, held, i); };
  if constexpr (std::is_floating_point_v<Score>) {
    if (k <= select_detail::kLanes && scores.size() >= 2 * select_detail::kLanes) {
      for_each_at_least(scores, select_detail::lower_bound_of_kth(scores, k), take);
      return;
    }
  }
  for (std::size_t i = 0; i < scores.size(); ++i) take(i);
}

}  // namespace moesim
