#include "hardware/max_min.h"

#include <array>
#include <vector>

#include "core/rng.h"
#include "support/testing.h"

namespace moesim::test {

TEST_SUITE("hardware/max_min") {
  std::vector<std::uint64_t> shared(std::uint64_t total, const std::vector<std::uint64_t>& caps) {
    std::vector<std::uint64_t> rates(caps.size(), 999);
    max_min_rates(BytesPerSecond{total}, caps, rates);
    return rates;
  }

  // One byte at a time, round robin, to whoever is still below its cap.
  std::vector<std::uint64_t> poured(std::uint64_t total, const std::vector<std::uint64_t>& caps) {
    std::vector<std::uint64_t> rates(caps.size(), 0);
    for (bool given = true; given && total > 0;) {
      given = false;
      for (std::size_t i = 0; i < caps.size() && total > 0; ++i) {
        if (rates[i] == caps[i]) continue;
        ++rates[i];
        --total;
        given = true;
      }
    }
    return rates;
  }

  using Rates = std::vector<std::uint64_t>;

  TEST_CASE("agents below the fair share get their cap, the others share what is left") {
    CHECK(shared(60, {44, 56}) == Rates{30, 30});
    CHECK(shared(60, {10, 56}) == Rates{10, 50});
    CHECK(shared(60, {10, 20, 56}) == Rates{10, 20, 30});
    CHECK(shared(60, {5, 6}) == Rates{5, 6});
    CHECK(shared(60, {0, 80}) == Rates{0, 60});
    CHECK(shared(0, {3, 4}) == Rates{0, 0});
    CHECK(shared(7, {9, 9, 9}) == Rates{3, 2, 2});
    CHECK(shared(7, {}).empty());
  }

  TEST_CASE("rates equal those of pouring byte by byte") {
    Rng rng(7);
    for (int round = 0; round < 2000; ++round) {
      Rates caps(1 + rng.below(8));
      for (std::uint64_t& cap : caps) cap = rng.below(40);
      const std::uint64_t total = rng.below(120);
      CAPTURE(round);
      CHECK(shared(total, caps) == poured(total, caps));
    }
  }

  TEST_CASE("caps without a limit do not overflow") {
    const std::uint64_t huge = ~std::uint64_t{0};
    CHECK(shared(huge, {huge, huge}) == Rates{huge / 2 + 1, huge / 2});
  }

  TEST_CASE("more than eight agents or spans of two sizes are a defect") {
    std::array<std::uint64_t, 9> nine{};
    CHECK_THROWS_AS(max_min_rates(BytesPerSecond{1}, nine, nine), InvariantError);
    std::array<std::uint64_t, 2> two{};
    CHECK_THROWS_AS(max_min_rates(BytesPerSecond{1}, two, std::span(nine).first(1)),
                    InvariantError);
  }
}

}  // namespace moesim::test
