#include "support/cache_replay.h"
#include "support/testing.h"

namespace moesim::test {
namespace {

ExpertCache lfu_cache(std::uint64_t capacity, const Json& parameters) {
  CacheOptions options;
  options.shape = {20, 1, 8};
  options.capacity = capacity;
  Json policy = {{"policy", "lfu"}};
  policy.update(parameters);
  return make_cache(options, policy);
}

std::vector<int> evicted_by(ExpertCache& cache, const std::vector<int>& experts) {
  return numbers(cache.visit(0, LayerId{0}, expert_ids(experts)).evicted, 8);
}

using Ids = std::vector<int>;

}  // namespace

TEST_SUITE("eviction lfu") {
  TEST_CASE("the lowest count leaves, then the longest unused, then the lowest id") {
    ExpertCache cache = lfu_cache(4, Json::object());
    evicted_by(cache, {3, 2});
    evicted_by(cache, {1, 0});
    evicted_by(cache, {3});
    CHECK(evicted_by(cache, {7}) == Ids{2});  // older than 0 and 1, used less than 3
    CHECK(evicted_by(cache, {6}) == Ids{0});  // as old as 1
    CHECK(residents(cache, LayerId{0}) == Ids{1, 3, 6, 7});
    CHECK(residents_by_score(cache, LayerId{0}) == Ids{1, 7, 6, 3});
  }

  TEST_CASE("ties by touch: the longest untouched leaves, within a visit too") {
    for (const bool by_touch : {false, true}) {
      ExpertCache cache = lfu_cache(4, {{"ties", by_touch ? "touch" : "event"}});
      evicted_by(cache, {1, 0});  // the best, 1, is touched first
      evicted_by(cache, {2, 3});
      CHECK(residents_by_score(cache, LayerId{0}) ==
            (by_touch ? Ids{1, 0, 2, 3} : Ids{0, 1, 2, 3}));
      CHECK(evicted_by(cache, {7}) == (by_touch ? Ids{1} : Ids{0}));
    }
  }

  TEST_CASE("persistent counts survive eviction, resident ones do not") {
    for (const bool persistent : {true, false}) {
      CAPTURE(persistent);
      ExpertCache cache = lfu_cache(2, {{"counts", persistent ? "persistent" : "resident"}});
      evicted_by(cache, {0});
      evicted_by(cache, {0});
      evicted_by(cache, {1});
      evicted_by(cache, {1});
      evicted_by(cache, {1});
      CHECK(evicted_by(cache, {2}) == Ids{0});
      CHECK(evicted_by(cache, {0}) == Ids{2});
      // By now 0 and 1 have been used three times each, 0 once since it was loaded again.
      CHECK(evicted_by(cache, {2}) == (persistent ? Ids{1} : Ids{0}));
    }
  }

  TEST_CASE("without protection an expert may leave as it comes") {
    ExpertCache cache = lfu_cache(1, {{"protect_current_token", false}});
    evicted_by(cache, {0});
    evicted_by(cache, {0});
    CHECK(evicted_by(cache, {1}) == Ids{1});
    CHECK(!cache.policy().protects_event());
    ExpertCache protecting = lfu_cache(1, Json::object());
    evicted_by(protecting, {0});
    evicted_by(protecting, {0});
    CHECK(evicted_by(protecting, {1}) == Ids{0});
    CHECK(protecting.policy().protects_event());
  }

  TEST_CASE("a speculative read is no use") {
    ExpertCache cache = lfu_cache(2, Json::object());
    evicted_by(cache, {0});
    std::span<const ExpertKey> evicted;
    REQUIRE(cache.begin_read(ExpertKey{5}, evicted));
    cache.finish_read(ExpertKey{5});
    CHECK(evicted_by(cache, {1}) == Ids{5});
  }

  TEST_CASE("an unknown kind of count names the known ones") {
    const std::string error = user_error_of([] { lfu_cache(2, {{"counts", "persistant"}}); });
    CHECK(contains(error, "test: /cache/eviction/counts: unknown value"));
    CHECK(contains(error, "known: persistent, resident; nearest: persistent"));
  }
}

}  // namespace moesim::test
