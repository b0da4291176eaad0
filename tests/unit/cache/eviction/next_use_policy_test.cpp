// belady and min_bypass, which share their ranking.
#include "cache/eviction/next_use_policy.h"

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

std::vector<RecordedVisit> visits_of(const std::vector<Ids>& events) {
  std::vector<RecordedVisit> visits;
  for (const Ids& event : events) {
    visits.push_back(
        {static_cast<std::uint32_t>(visits.size()), LayerId{0}, expert_ids(event), false});
  }
  return visits;
}

// What each event evicts.
std::vector<Ids> evictions(const char* policy, const CacheOptions& options,
                           const std::vector<RecordedVisit>& visits) {
  const FutureAccesses future = future_of(visits, options.shape);
  ExpertCache cache = make_cache(options, {{"policy", policy}}, &future);
  std::vector<Ids> all;
  for (const RecordedVisit& visit : visits) {
    all.push_back(numbers(replay_visit(cache, visit).evicted, options.shape.experts));
  }
  return all;
}

}  // namespace

TEST_SUITE("eviction belady and min_bypass") {
  TEST_CASE("the farthest next use leaves, among equals the highest id") {
    const auto visits = visits_of({{0, 1}, {2}, {1}, {0}, {5, 4}, {6}});
    CHECK(evictions("belady", options_of(2), visits) ==
          std::vector<Ids>{{}, {0}, {}, {2}, {1, 5}, {4}});
    // Nothing that is used later makes room for 2, which is not.
    CHECK(evictions("min_bypass", options_of(2), visits) ==
          std::vector<Ids>{{}, {2}, {}, {}, {5, 4}, {6}});
  }

  TEST_CASE("one by one, the order within the visit decides") {
    CacheOptions options = options_of(2);
    options.accounting = Accounting::kAccess;
    const auto visits = visits_of({{0, 1}, {2}, {1, 0}});
    CHECK(evictions("belady", options, visits) == std::vector<Ids>{{}, {0}, {2}});
    CHECK(evictions("min_bypass", options, visits) == std::vector<Ids>{{}, {2}, {}});
    // The same visits with 0 before 1 in the last.
    const auto swapped = visits_of({{0, 1}, {2}, {0, 1}});
    CHECK(evictions("belady", options, swapped) == std::vector<Ids>{{}, {1}, {2}});
  }

  TEST_CASE("a speculative arrival ranks by its next use") {
    const auto visits = visits_of({{0, 1}, {3}, {0}, {2}, {1}});
    const CacheOptions options = options_of(3);
    const FutureAccesses future = future_of(visits, options.shape);
    ExpertCache cache = make_cache(options, {{"policy", "min_bypass"}}, &future);
    replay_visit(cache, visits[0]);
    std::span<const ExpertKey> evicted;
    REQUIRE(cache.begin_read(ExpertKey{2}, evicted));
    cache.finish_read(ExpertKey{2});
    CHECK(cache.view(LayerId{0}).eviction_score(ExpertId{2}) == 3.0);
    CHECK(cache.view(LayerId{0}).eviction_score(ExpertId{1}) == 4.0);
    CHECK(numbers(replay_visit(cache, visits[1]).evicted, 8) == Ids{3});
  }

  TEST_CASE("they look ahead, and with unequal sizes they say so") {
    for (const char* policy : {"belady", "min_bypass"}) {
      EvictionContext context;
      context.shape = {1, 1, 4};
      CHECK(make_eviction({{"policy", policy}}, context)->looks_ahead());
      CHECK(make_eviction({{"policy", policy}}, context)->caveat().empty());
      context.equal_sizes = false;
      CHECK(make_eviction({{"policy", policy}}, context)->caveat() ==
            "farthest next use is a heuristic where experts differ in size");
    }
  }

  TEST_CASE("a run without a future, or past its end, is a defect") {
    const std::string message = "an offline eviction policy needs the accesses of the whole run";
    ExpertCache blind = make_cache(options_of(2), {{"policy", "belady"}});
    CHECK_THROWS_WITH_AS(blind.visit(0, LayerId{0}, expert_ids({0})), message.c_str(),
                         InvariantError);
    std::span<const ExpertKey> evicted;
    REQUIRE(blind.begin_read(ExpertKey{1}, evicted));
    CHECK_THROWS_WITH_AS(blind.finish_read(ExpertKey{1}), message.c_str(), InvariantError);
    const auto visits = visits_of({{0}});
    const FutureAccesses future = future_of(visits, options_of(2).shape);
    ExpertCache cache = make_cache(options_of(2), {{"policy", "min_bypass"}}, &future);
    replay_visit(cache, visits[0]);
    CHECK_THROWS_WITH_AS(replay_visit(cache, visits[0]), message.c_str(), InvariantError);
  }
}

}  // namespace moesim::test
