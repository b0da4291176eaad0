#include "cache/tiered_store.h"

#include "support/testing.h"

namespace moesim::test {
namespace {

constexpr RoutingShape kShape{0, 2, 4};
const std::vector<std::uint64_t> kBytes(8, 100);

std::unique_ptr<ExpertCache> lru_of(std::uint64_t experts) {
  const Section lru(Json{{"policy", "lru"}}, "test", "");
  CacheOptions options;
  options.shape = kShape;
  options.scope = CacheScope::kGlobal;
  options.capacity = 100 * experts;
  options.expert_size = kBytes;
  EvictionContext context;
  context.shape = kShape;
  return std::make_unique<ExpertCache>(options,
                                       Registry<EvictionPolicy>::instance().make(lru, context));
}

TieredStore store_of(const std::vector<std::uint64_t>& capacities, bool all_at_the_end) {
  std::vector<std::unique_ptr<ExpertCache>> tiers;
  for (const std::uint64_t capacity : capacities) tiers.push_back(lru_of(capacity));
  if (all_at_the_end) tiers.push_back(nullptr);
  return {kShape, kBytes, std::move(tiers)};
}

std::vector<int> ask(TieredStore& store, std::vector<int> experts, bool is_union = false) {
  std::vector<ExpertId> ids;
  for (const int expert : experts) ids.push_back(static_cast<ExpertId>(expert));
  const auto found = store.request(1, LayerId{0}, ids, is_union);
  return {found.begin(), found.end()};
}

}  // namespace

TEST_SUITE("cache/tiered_store") {
  TEST_CASE("a tier that holds everything answers every request") {
    TieredStore store = store_of({}, true);
    CHECK(ask(store, {3, 0}) == std::vector<int>{1, 1});
    CHECK(store.counts(1).accesses == 2);
    CHECK(store.counts(1).hits == 2);
    CHECK(store.counts(1).demand_bytes == 0);
    CHECK(store.cache(1) == nullptr);
  }

  TEST_CASE("what a tier lacks comes from behind and stays in it") {
    TieredStore store = store_of({2}, false);
    CHECK(ask(store, {0, 1}) == std::vector<int>{2, 2});  // flash is behind the one tier
    CHECK(ask(store, {1, 0}) == std::vector<int>{1, 1});
    CHECK(ask(store, {2, 0}) == std::vector<int>{2, 1});  // in the order of the request
    CHECK(store.counts(1).accesses == 6);
    CHECK(store.counts(1).hits == 3);
    CHECK(store.counts(1).misses == 3);
    CHECK(store.counts(1).evictions == 1);
    CHECK(store.counts(1).demand_bytes == 300);
    CHECK(ask(store, {1}) == std::vector<int>{2});
  }

  TEST_CASE("each tier is asked for what the one before it lacks, and both are filled") {
    TieredStore store = store_of({1, 3}, true);
    CHECK(ask(store, {0}) == std::vector<int>{3});
    CHECK(ask(store, {0}) == std::vector<int>{1});
    CHECK(ask(store, {1}) == std::vector<int>{3});
    CHECK(ask(store, {0}) == std::vector<int>{2});  // it left the first and stayed in the second
    CHECK(store.counts(2).accesses == store.counts(1).misses);
    CHECK(store.counts(3).accesses == store.counts(2).misses);
    CHECK(store.counts(1).misses == 3);
    CHECK(store.counts(2).misses == 2);
  }

  TEST_CASE("a request larger than a tier passes through it") {
    TieredStore store = store_of({2}, true);
    CHECK(ask(store, {0, 1, 2, 3}, true) == std::vector<int>{2, 2, 2, 2});
    CHECK(store.cache(1)->used(0) == 200);
  }

  TEST_CASE("a tier may hold every expert from the start") {
    TieredStore store = store_of({8}, false);
    store.fill(1);
    CHECK(store.counts(1).accesses == 0);
    CHECK(ask(store, {0, 1, 2, 3}) == std::vector<int>{1, 1, 1, 1});
    CHECK(store.counts(1).evictions == 0);
  }

  TEST_CASE("only the last tier may hold every expert") {
    std::vector<std::unique_ptr<ExpertCache>> tiers;
    tiers.push_back(nullptr);
    tiers.push_back(lru_of(1));
    CHECK_THROWS_AS(TieredStore(kShape, kBytes, std::move(tiers)), InvariantError);
  }
}

}  // namespace moesim::test
