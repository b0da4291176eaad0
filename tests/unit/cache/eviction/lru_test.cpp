#include "support/cache_replay.h"
#include "support/testing.h"

namespace moesim::test {

TEST_SUITE("eviction lru") {
  TEST_CASE("the score is the place in the order of recency, the most recent first") {
    CacheOptions options;
    options.shape = {10, 2, 8};
    options.capacity = 3;
    ExpertCache cache = make_cache(options, {{"policy", "lru"}});
    cache.visit(0, LayerId{1}, expert_ids({7, 2, 5}));
    cache.visit(1, LayerId{1}, expert_ids({2}));
    const ResidencyView view = cache.view(LayerId{1});
    CHECK(view.eviction_score(ExpertId{2}) == 1.0);
    CHECK(view.eviction_score(ExpertId{5}) == 2.0);
    CHECK(view.eviction_score(ExpertId{7}) == 3.0);
    cache.visit(2, LayerId{1}, expert_ids({7}));
    CHECK(view.eviction_score(ExpertId{7}) == 1.0);
    CHECK(view.eviction_score(ExpertId{5}) == 3.0);
  }

  TEST_CASE("one order for all layers where they share a cache") {
    CacheOptions options;
    options.shape = {10, 2, 8};
    options.scope = CacheScope::kGlobal;
    options.capacity = 3;
    ExpertCache cache = make_cache(options, {{"policy", "lru"}});
    cache.visit(0, LayerId{0}, expert_ids({1, 2}));
    cache.visit(0, LayerId{1}, expert_ids({1}));
    CHECK(cache.view(LayerId{0}).eviction_score(ExpertId{1}) == 3.0);
    CHECK(cache.view(LayerId{1}).eviction_score(ExpertId{1}) == 1.0);
    const EventOutcome outcome = cache.visit(1, LayerId{1}, expert_ids({6}));
    REQUIRE(outcome.evicted.size() == 1);
    CHECK(index(outcome.evicted[0]) == 1);
  }

  TEST_CASE("it takes no parameters") {
    EvictionContext context;
    context.shape = {1, 1, 4};
    const std::string error = user_error_of([&] {
      make_eviction({{"policy", "lru"}, {"counts", 1}}, context);
    });
    CHECK(contains(error, "test: /cache/eviction/counts: unknown key"));
    CHECK(make_eviction({{"policy", "lru"}}, context)->caveat().empty());
  }
}

}  // namespace moesim::test
