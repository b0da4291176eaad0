// The k best of a row, best first. Equal scores rank by lower index, so that the choice depends on
// nothing but the input.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace moesim {

// Writes the indices of the out.size() largest scores into `out`, largest first. One pass; a score
// is looked at once and most are rejected by one comparison with the k-th best so far.
// REQUIRES: out.size() <= scores.size(); no score is NaN.
template <class Score, class Index>
void select_top_k(std::span<const Score> scores, std::span<Index> out) {
  const std::size_t k = out.size();
  if (k == 0) return;
  std::size_t held = 0;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const Score score = scores[i];
    if (held == k && !(score > scores[static_cast<std::size_t>(out[k - 1])])) continue;
    std::size_t place = held < k ? held : k - 1;
    while (place > 0 && score > scores[static_cast<std::size_t>(out[place - 1])]) {
      out[place] = out[place - 1];
      --place;
    }
    out[place] = static_cast<Index>(i);
    if (held < k) ++held;
  }
}

}  // namespace moesim
