#include "support/scenario.h"
#include "support/testing.h"

namespace moesim::test {
namespace {

std::optional<std::uint64_t> slots(const Json& cache, const std::vector<std::int64_t>& sizes = {}) {
  TraceData data = random_logits({24, 4, 16}, 4, 3);
  data.expert_bytes = sizes;
  Scenario scenario(data);
  scenario.config["device"] = nullptr;
  scenario.config["cache"] = cache;
  return scenario.run().result.cache_slots;
}

}  // namespace

TEST_SUITE("metrics/run_metrics") {
  TEST_CASE("the slots of a cache are the experts that it holds, over all layers") {
    CHECK(slots({{"capacity_experts", 6}}) == 24);
    CHECK(slots({{"capacity_experts", 16}}) == 64);
    CHECK(slots({{"capacity_experts", 30}, {"scope", "global"}}) == 30);
    CHECK(slots({{"capacity_experts", 0}}) == 0);
  }

  TEST_CASE("a capacity in MiB holds whole experts, each layer its own") {
    constexpr std::int64_t kMebi = 1 << 20;
    const std::vector<std::int64_t> sizes{kMebi, 2 * kMebi, kMebi, 2 * kMebi};
    // 9 MiB a layer: 9, 4, 9, 4.
    CHECK(slots({{"capacity_mib", 36}}, sizes) == 26);
    // No more than there are.
    CHECK(slots({{"capacity_mib", 4000}}, sizes) == 64);
  }

  TEST_CASE("experts of one cache that differ in size have no number of slots") {
    constexpr std::int64_t kMebi = 1 << 20;
    const Json global = {{"capacity_mib", 36}, {"scope", "global"}};
    CHECK(!slots(global, {kMebi, 2 * kMebi, kMebi, kMebi}).has_value());
    CHECK(slots(global, {kMebi, kMebi, kMebi, kMebi}) == 36);
  }
}

}  // namespace moesim::test
