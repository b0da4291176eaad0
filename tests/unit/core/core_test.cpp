#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "core/half.h"
#include "core/indexed_heap.h"
#include "core/rng.h"
#include "core/select.h"
#include "core/units.h"
#include "support/testing.h"

namespace moesim::test {

TEST_SUITE("core") {
  TEST_CASE("a transfer is rounded up and does not overflow") {
    CHECK(transfer_time(1, BytesPerSecond{3}) == Duration{333'333'333'334});
    CHECK(transfer_time(std::uint64_t{1} << 40, to_rate(1.0)).count() ==
          (std::int64_t{1} << 40) * 1000);
    CHECK(from_us(0.5).count() == 500'000);
  }

  TEST_CASE("every finite half survives the way to float and back") {
    for (std::uint32_t bits = 0; bits < 0x10000U; ++bits) {
      const auto half = static_cast<std::uint16_t>(bits);
      if (!half_is_finite(half)) continue;
      REQUIRE(float_to_half(half_to_float(half)) == half);
    }
    CHECK(half_to_float(0x3C00) == 1.0F);
    CHECK(half_to_float(0xC000) == -2.0F);
    CHECK(half_to_float(0x0001) == 0x1.0p-24F);
    CHECK(float_to_half(65520.0F) == 0x7C00);
    CHECK(float_to_half(1.0F + 0x1.0p-11F) == 0x3C00);  // a tie goes to even
  }

  TEST_CASE("the generator is splitmix64 and its components differ") {
    Rng rng(1);
    CHECK(rng.next() == 0x910A2DEC89025CC1U);
    CHECK(Rng::for_component(1, "flash").next() != Rng::for_component(1, "random").next());
    Rng a = Rng::for_component(7, "x");
    Rng b = Rng::for_component(7, "x");
    CHECK(a.next() == b.next());
  }

  template <class Score>
  void check_top_k() {
    Rng rng(3);
    for (int round = 0; round < 600; ++round) {
      std::vector<Score> scores(1 + rng.below(300));
      const std::uint64_t levels = round % 3 == 0 ? 4 : 1000;  // many ties, or few
      for (Score& s : scores) s = static_cast<Score>(rng.below(levels)) - 2;
      std::vector<std::uint16_t> order(scores.size());
      std::iota(order.begin(), order.end(), std::uint16_t{0});
      std::stable_sort(order.begin(), order.end(),
                       [&](auto a, auto b) { return scores[a] > scores[b]; });
      std::vector<std::uint16_t> best(rng.below(std::min<std::size_t>(scores.size(), 24) + 1));
      select_top_k(std::span<const Score>(scores), std::span(best));
      REQUIRE(std::equal(best.begin(), best.end(), order.begin()));
    }
  }

  TEST_CASE("top-k equals a stable sort, ties to the lower index") {
    check_top_k<float>();
    check_top_k<double>();
    check_top_k<std::int32_t>();
  }

  TEST_CASE("the scores that reach a bound, as bits") {
    Rng rng(4);
    for (int round = 0; round < 200; ++round) {
      std::vector<float> scores(1 + rng.below(200));
      for (float& s : scores) s = static_cast<float>(rng.below(10));
      for (std::size_t base = 0; base < scores.size(); base += 64) {
        const std::uint64_t word = word_at_least(std::span<const float>(scores), 6.0F, base);
        for (std::size_t i = 0; i < 64; ++i) {
          const bool reaches = base + i < scores.size() && scores[base + i] >= 6;
          REQUIRE(((word >> i) & 1U) == (reaches ? 1U : 0U));
        }
      }
    }
  }

  TEST_CASE("the indexed heap gives the least priority through changes and removals") {
    IndexedHeap<std::uint64_t, std::less<>> heap(64);
    std::vector<std::int64_t> reference(64, -1);
    Rng rng(5);
    for (int step = 0; step < 5000; ++step) {
      const std::size_t id = rng.below(64);
      if (rng.below(3) == 0) {
        heap.erase(id);
        reference[id] = -1;
      } else {
        const std::uint64_t priority = rng.below(1000) * 64 + id;
        heap.set(id, priority);
        reference[id] = static_cast<std::int64_t>(priority);
      }
      std::int64_t least = -1;
      for (const std::int64_t p : reference) {
        if (p >= 0 && (least < 0 || p < least)) least = p;
      }
      REQUIRE(heap.empty() == (least < 0));
      if (least >= 0) {
        REQUIRE(heap.priority(heap.top()) == static_cast<std::uint64_t>(least));
      }
    }
  }
}

}  // namespace moesim::test
