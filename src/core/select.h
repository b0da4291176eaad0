// The k best of a row, best first. Equal scores rank by lower index, so that the choice depends on
// nothing but the input.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace moesim {

namespace select_detail {

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
inline constexpr std::size_t kMostFiltered = 512;

// The k-th largest of the maxima of kLanes interleaved parts of the row: at least k scores are not
// below it. Straight loops without branches, which compile to vector instructions.
// REQUIRES: 0 < k <= kLanes <= scores.size().
template <class Score>
Score lower_bound_of_kth(std::span<const Score> scores, std::size_t k) {
  std::array<Score, kLanes> largest;
  for (std::size_t lane = 0; lane < kLanes; ++lane) largest[lane] = scores[lane];
  for (std::size_t i = kLanes; i + kLanes <= scores.size(); i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      const Score score = scores[i + lane];
      largest[lane] = largest[lane] < score ? score : largest[lane];
    }
  }
  std::array<std::uint32_t, kLanes> larger{};  // how many of the maxima are larger
  for (std::size_t other = 0; other < kLanes; ++other) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      larger[lane] += largest[other] > largest[lane] ? 1U : 0U;
    }
  }
  Score bound = largest[0];
  bool found = false;
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    // With ties no maximum may have exactly k - 1 above it; the least of those with fewer serves.
    if (larger[lane] < k && (!found || largest[lane] < bound)) {
      bound = largest[lane];
      found = true;
    }
  }
  return bound;
}

}  // namespace select_detail

// Writes the indices of the out.size() largest scores into `out`, largest first. Long rows are
// first cut down to the few scores that can be among the best, without branches; those are then
// put in order one by one.
// REQUIRES: out.size() <= scores.size(); no score is NaN.
template <class Score, class Index>
void select_top_k(std::span<const Score> scores, std::span<Index> out) {
  using namespace select_detail;
  const std::size_t k = out.size();
  if (k == 0) return;
  std::size_t held = 0;
  if (k > kLanes || scores.size() < 2 * kLanes || scores.size() > kMostFiltered) {
    for (std::size_t i = 0; i < scores.size(); ++i) held = insert(scores, out, held, i);
    return;
  }
  const Score bound = lower_bound_of_kth(scores, k);
  std::array<std::uint16_t, kMostFiltered> candidates;
  std::size_t count = 0;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    candidates[count] = static_cast<std::uint16_t>(i);
    count += scores[i] >= bound ? 1U : 0U;
  }
  for (std::size_t c = 0; c < count; ++c) held = insert(scores, out, held, candidates[c]);
}

}  // namespace moesim
