#include "engine/token_scheduler.h"

#include <algorithm>
#include <set>

#include "core/errors.h"
#include "core/rng.h"
#include "support/testing.h"

namespace moesim::test {
namespace {

ExpertPaths paths_of(std::size_t bits, const std::vector<std::vector<std::size_t>>& tokens) {
  ExpertPaths paths(bits);
  for (const auto& experts : tokens) {
    paths.add_token();
    for (const std::size_t expert : experts) paths.add_expert(expert);
  }
  return paths;
}

// k of the experts of each layer; tokens of the same of two kinds prefer the same ones.
ExpertPaths random_paths(Rng& rng, std::size_t tokens, std::size_t layers, std::size_t experts,
                         std::size_t k) {
  ExpertPaths paths(layers * experts);
  for (std::size_t token = 0; token < tokens; ++token) {
    const std::size_t half = rng.below(2) * (experts / 2);
    paths.add_token();
    for (std::size_t layer = 0; layer < layers; ++layer) {
      std::set<std::size_t> chosen;
      while (chosen.size() < k) {
        chosen.insert(rng.below(5) > 0 ? half + rng.below(experts / 2) : rng.below(experts));
      }
      for (const std::size_t expert : chosen) paths.add_expert(layer * experts + expert);
    }
  }
  return paths;
}

}  // namespace

TEST_SUITE("engine/token_scheduler") {
  // routing_and_compression.md, acceptance test 5.
  TEST_CASE("four tokens with paths 1, 2, 1, 2: two experts instead of four") {
    const TokenSplit split = split_tokens(paths_of(4, {{1}, {2}, {1}, {2}}), 2);
    CHECK(split.objective_before == 4);
    CHECK(split.objective_after == 2);
    CHECK(split.first == std::vector<std::uint32_t>{0, 2});
    CHECK(split.second == std::vector<std::uint32_t>{1, 3});
  }

  TEST_CASE("a path spans layers and words, and the distance counts both sides") {
    const ExpertPaths paths = paths_of(130, {{0, 64, 129}, {0, 65, 129}, {}});
    CHECK(paths.tokens() == 3);
    CHECK(paths.hamming(0, 1) == 2);
    CHECK(paths.hamming(0, 2) == 3);
    CHECK(paths.distinct(std::vector<std::uint32_t>{0, 1}) == 4);
    CHECK(paths.distinct(std::vector<std::uint32_t>{2}) == 0);
  }

  TEST_CASE("tokens that are all alike, and batches of unequal size, keep their order") {
    const TokenSplit alike = split_tokens(paths_of(4, {{1}, {1}, {1}, {1}}), 2);
    CHECK(alike.first == std::vector<std::uint32_t>{0, 1});
    CHECK(alike.objective_after == 2);
    const TokenSplit unequal = split_tokens(paths_of(4, {{1}, {1}, {2}}), 2);
    CHECK(unequal.first == std::vector<std::uint32_t>{0, 1});
    CHECK(unequal.objective_after == 2);
  }

  TEST_CASE("the objective is the distinct experts of both batches, some orders stay as given") {
    Rng rng(3);
    std::size_t kept = 0;
    for (int round = 0; round < 300; ++round) {
      const ExpertPaths paths = random_paths(rng, 8, 1, 8, 3);
      const TokenSplit split = split_tokens(paths, 4);
      const std::uint64_t given = paths.distinct(std::vector<std::uint32_t>{0, 1, 2, 3}) +
                                  paths.distinct(std::vector<std::uint32_t>{4, 5, 6, 7});
      CHECK(split.objective_before == given);
      CHECK(split.objective_after == paths.distinct(split.first) + paths.distinct(split.second));
      if (split.first == std::vector<std::uint32_t>{0, 1, 2, 3}) ++kept;
    }
    CHECK(kept > 0);
    CHECK(kept < 300);
  }

  TEST_CASE(
      "never worse than the order given, of the sizes asked for, each token once, repeatable") {
    Rng rng(5);
    std::uint64_t saved = 0;
    for (int round = 0; round < 200; ++round) {
      const std::size_t tokens = 2 + rng.below(15);
      const std::size_t first_size = 1 + rng.below(tokens - 1);
      const ExpertPaths paths = random_paths(rng, tokens, 1 + rng.below(5), 32, 4);
      const TokenSplit split = split_tokens(paths, first_size);
      CHECK(split.objective_after <= split.objective_before);
      saved += split.objective_before - split.objective_after;
      CHECK(split.first.size() == first_size);
      CHECK(split.second.size() == tokens - first_size);
      CHECK(std::is_sorted(split.first.begin(), split.first.end()));
      CHECK(std::is_sorted(split.second.begin(), split.second.end()));
      std::set<std::uint32_t> all(split.first.begin(), split.first.end());
      all.insert(split.second.begin(), split.second.end());
      CHECK(all.size() == tokens);
      const TokenSplit again = split_tokens(paths, first_size);
      CHECK(again.first == split.first);
      CHECK(again.objective_after == split.objective_after);
    }
    CHECK(saved > 0);
  }

  TEST_CASE("tokens of two kinds come apart, in whichever order they stand") {
    Rng rng(7);
    for (int round = 0; round < 20; ++round) {
      std::vector<std::vector<std::size_t>> tokens(16, {0, 1, 2});
      std::fill(tokens.begin(), tokens.begin() + 8, std::vector<std::size_t>{3, 4, 5});
      for (std::size_t i = 15; i > 0; --i) std::swap(tokens[i], tokens[rng.below(i + 1)]);
      CHECK(split_tokens(paths_of(8, tokens), 8).objective_after == 6);
    }
  }

  TEST_CASE("a split needs two batches") {
    const ExpertPaths paths = paths_of(4, {{1}, {2}});
    CHECK_THROWS_AS(split_tokens(paths, 0), InvariantError);
    CHECK_THROWS_AS(split_tokens(paths, 2), InvariantError);
  }
}

}  // namespace moesim::test
