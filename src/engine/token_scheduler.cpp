#include "engine/token_scheduler.h"

#include <algorithm>
#include <bit>
#include <iterator>
#include <limits>
#include <numeric>
#include <utility>

#include "core/errors.h"

namespace moesim {
namespace {

constexpr int kMostRounds = 10;

using Places = std::vector<std::uint32_t>;
using Centres = std::pair<std::uint32_t, std::uint32_t>;

// The pair with the lowest similarity.
Centres farthest_pair(const ExpertPaths& paths) {
  Centres farthest{0, 1};
  std::uint32_t most = 0;
  const auto tokens = static_cast<std::uint32_t>(paths.tokens());
  for (std::uint32_t a = 0; a < tokens; ++a) {
    for (std::uint32_t b = a + 1; b < tokens; ++b) {
      const std::uint32_t distance = paths.hamming(a, b);
      if (distance <= most) continue;
      most = distance;
      farthest = {a, b};
    }
  }
  return farthest;
}

// The places that go with the first centre, increasing.
Places closest_to_first(const ExpertPaths& paths, const Centres& centres, std::size_t size) {
  std::vector<std::pair<std::int64_t, std::uint32_t>> order;  // preference for the second, place
  const auto tokens = static_cast<std::uint32_t>(paths.tokens());
  order.reserve(tokens);
  for (std::uint32_t token = 0; token < tokens; ++token) {
    order.emplace_back(std::int64_t{paths.hamming(token, centres.first)} -
                           std::int64_t{paths.hamming(token, centres.second)},
                       token);
  }
  std::sort(order.begin(), order.end());
  Places first;
  first.reserve(size);
  for (std::size_t i = 0; i < size; ++i) first.push_back(order[i].second);
  std::sort(first.begin(), first.end());
  return first;
}

Places others(const Places& chosen, std::size_t tokens) {
  Places all(tokens);
  std::iota(all.begin(), all.end(), 0U);
  Places rest;
  rest.reserve(tokens - chosen.size());
  std::set_difference(all.begin(), all.end(), chosen.begin(), chosen.end(),
                      std::back_inserter(rest));
  return rest;
}

// The member with the highest mean similarity to its batch.
std::uint32_t centre_of(const ExpertPaths& paths, const Places& batch) {
  std::uint32_t centre = batch.front();
  std::uint64_t least = std::numeric_limits<std::uint64_t>::max();
  for (const std::uint32_t candidate : batch) {
    std::uint64_t distance = 0;
    for (const std::uint32_t member : batch) distance += paths.hamming(candidate, member);
    if (distance >= least) continue;
    least = distance;
    centre = candidate;
  }
  return centre;
}

}  // namespace

std::uint32_t ExpertPaths::hamming(std::size_t a, std::size_t b) const {
  int differ = 0;
  for (std::size_t word = 0; word < words_; ++word) {
    differ += std::popcount(bits_[a * words_ + word] ^ bits_[b * words_ + word]);
  }
  return static_cast<std::uint32_t>(differ);
}

std::uint64_t ExpertPaths::distinct(std::span<const std::uint32_t> tokens) const {
  std::uint64_t count = 0;
  for (std::size_t word = 0; word < words_; ++word) {
    std::uint64_t all = 0;
    for (const std::uint32_t token : tokens) all |= bits_[token * words_ + word];
    count += static_cast<std::uint64_t>(std::popcount(all));
  }
  return count;
}

TokenSplit split_tokens(const ExpertPaths& paths, std::size_t first_size) {
  const std::size_t tokens = paths.tokens();
  if (first_size == 0 || first_size >= tokens) {
    throw InvariantError("a split of tokens needs two batches");
  }
  TokenSplit given;
  given.first.resize(first_size);
  std::iota(given.first.begin(), given.first.end(), 0U);
  given.second = others(given.first, tokens);
  given.objective_before = paths.distinct(given.first) + paths.distinct(given.second);
  given.objective_after = given.objective_before;

  TokenSplit found = given;
  Centres centres = farthest_pair(paths);
  Places before;
  for (int round = 0; round < kMostRounds; ++round) {
    found.first = closest_to_first(paths, centres, first_size);
    found.second = others(found.first, tokens);
    if (found.first == before) break;
    before = found.first;
    centres = {centre_of(paths, found.first), centre_of(paths, found.second)};
  }
  found.objective_after = paths.distinct(found.first) + paths.distinct(found.second);
  return found.objective_after <= given.objective_before ? found : given;
}

}  // namespace moesim
