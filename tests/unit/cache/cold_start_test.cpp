// What the cache holds at the start, and how the first accesses count.
#include "support/cache_replay.h"
#include "support/testing.h"

namespace moesim::test {
namespace {

using Ids = std::vector<int>;

CacheOptions options_of(std::uint64_t capacity) {
  CacheOptions options;
  options.shape = {20, 1, 8};
  options.capacity = capacity;
  return options;
}

// Hits of one visit.
std::size_t hits(ExpertCache& cache, const Ids& best_first) {
  const auto accesses = cache.visit(0, LayerId{}, expert_ids(best_first)).accesses;
  return static_cast<std::size_t>(
      std::count_if(accesses.begin(), accesses.end(),
                    [](const Access& access) { return access.kind == AccessKind::kHit; }));
}

}  // namespace

TEST_SUITE("cache start") {
  TEST_CASE("hit_until_full: what enters counts as a hit while there is room, best first") {
    for (const Accounting accounting : {Accounting::kEvent, Accounting::kAccess}) {
      CacheOptions options = options_of(4);
      options.accounting = accounting;
      ExpertCache strict = make_cache(options, {{"policy", "lru"}});
      CHECK(hits(strict, {0, 1, 2}) == 0);
      options.cold_start = ColdStart::kHitUntilFull;
      ExpertCache cache = make_cache(options, {{"policy", "lru"}});
      CHECK(hits(cache, {0, 1, 2}) == 3);
      CHECK(hits(cache, {0, 3, 4}) == 2);  // 4 is the first without room
      CHECK(hits(cache, {5}) == 0);
      CHECK(residents(cache, LayerId{}).size() == 4);
      cache.reset();
      CHECK(hits(cache, {6, 7}) == 2);
    }
  }

  TEST_CASE("a cold hit is neither a load nor a read") {
    CacheOptions options = options_of(2);
    options.cold_start = ColdStart::kHitUntilFull;
    ExpertCache cache = make_cache(options, {{"policy", "lru"}});
    const std::vector<RecordedVisit> visits{{0, LayerId{}, expert_ids({0, 1}), false},
                                            {1, LayerId{}, expert_ids({2}), false}};
    const CacheCounts counts = replay(cache, visits);
    CHECK(counts.hits == 2);
    CHECK(counts.loads == 1);
    CHECK(counts.cold_misses == 1);
    CHECK(counts.demand_bytes == 1);
    CHECK(counts.evictions == 1);
  }

  TEST_CASE("hit_until_full ends where a speculative read finds no room") {
    CacheOptions options = options_of(2);
    options.cold_start = ColdStart::kHitUntilFull;
    ExpertCache cache = make_cache(options, {{"policy", "lru"}});
    CHECK(hits(cache, {0}) == 1);
    std::span<const ExpertKey> evicted;
    REQUIRE(cache.begin_read(ExpertKey{1}, evicted));
    cache.finish_read(ExpertKey{1});
    hits(cache, {1});
    REQUIRE(cache.begin_read(ExpertKey{2}, evicted));
    cache.finish_read(ExpertKey{2});
    CHECK(hits(cache, {3}) == 0);
  }

  TEST_CASE("initial contents: the first stay longest, what does not fit is left out") {
    CacheOptions options = options_of(5);
    options.expert_size = {2, 2, 2, 1, 1, 1, 1, 1};
    options.initial = {ExpertKey{0}, ExpertKey{1}, ExpertKey{2}, ExpertKey{3}, ExpertKey{4}};
    for (const std::string& policy : Registry<EvictionPolicy>::instance().names()) {
      CAPTURE(policy);
      FutureAccesses future(8);
      future.finish();
      ExpertCache cache = make_cache(options, {{"policy", policy}}, &future);
      CHECK(residents(cache, LayerId{}) == Ids{0, 1, 3});
      CHECK(cache.used(0) == 5);
      cache.reset();
      CHECK(residents(cache, LayerId{}) == Ids{0, 1, 3});
      CHECK(cache.used(0) == 5);
    }
    ExpertCache cache = make_cache(options, {{"policy", "lru"}});
    CHECK(residents_by_score(cache, LayerId{}) == Ids{3, 1, 0});
    CHECK(hits(cache, {0, 5}) == 1);
    CHECK(residents(cache, LayerId{}) == Ids{0, 1, 5});
  }

  TEST_CASE("initial contents that name an expert twice or one out of range are a defect") {
    const std::string message = "the initial contents name an expert twice or one out of range";
    for (const ExpertKey second : {ExpertKey{0}, ExpertKey{8}}) {
      CacheOptions options = options_of(4);
      options.initial = {ExpertKey{0}, second};
      CHECK_THROWS_WITH_AS(make_cache(options, {{"policy", "lru"}}), message.c_str(),
                           InvariantError);
    }
  }
}

}  // namespace moesim::test
