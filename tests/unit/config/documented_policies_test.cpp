// The example policies of docs/adding_a_policy.md, compiled from that page (tests/CMakeLists.txt):
// they are in the registry, so that the property tests cover them, and do what the page says.
#include "config/registry.h"
#include "prefetch/prefetcher.h"
#include "support/cache_replay.h"
#include "support/routing.h"
#include "support/testing.h"

namespace moesim::test {

TEST_SUITE("config/documented_policies") {
  TEST_CASE("skip_tail runs the best, and of the others the resident ones") {
    const RoutingContext context = routing_context(gate_of('C'), 6, 3);
    const std::vector<float> logits{0, 3, 1, 2, 0, 0};
    const auto chosen = [&](const Json& config, const std::vector<std::size_t>& residents) {
      return ids_of(route(*routing_policy(config, context), context, logits, residents));
    };
    const Json config = {{"policy", "skip_tail"}};
    CHECK(chosen(config, {2, 5}) == std::vector<std::size_t>{1, 2});
    CHECK(chosen(config, {}) == std::vector<std::size_t>{1});
    CHECK(chosen({{"policy", "skip_tail"}, {"always", 3}}, {}) ==
          std::vector<std::size_t>{1, 3, 2});
  }

  TEST_CASE("mru keeps the first experts of a loop that is longer than the cache") {
    const RoutingShape shape{0, 1, 6};
    std::vector<RecordedVisit> loop;
    for (std::uint32_t token = 0; token < 20; ++token) {
      loop.push_back({token, LayerId{0}, expert_ids({static_cast<int>(token % 5)}), false});
    }
    CacheOptions options;
    options.shape = shape;
    options.capacity = 4;
    const std::uint64_t hits = replay(options, {{"policy", "mru"}}, loop).hits;
    CHECK(hits > replay(options, {{"policy", "lru"}}, loop).hits);
    // 0 1 2 3, then 4 replaces 3; each round of five misses one or two.
    CHECK(hits == replay(options, {{"policy", "belady"}}, loop).hits);
  }

  TEST_CASE("same_ids names the experts of the same numbers in the layer that is asked about") {
    PrefetchContext context;
    context.shape = {0, 2, 6};
    const auto prefetcher = Registry<Prefetcher>::instance().make(
        Section(Json{{"policy", "same_ids"}}, "run.json", "/prefetch"), context);
    const std::vector<ExpertId> executed = expert_ids({4, 1});
    std::vector<ExpertKey> wanted;
    PrefetchQuery query;
    query.executed = executed;
    query.target_layer = LayerId{1};
    prefetcher->predict(query, wanted);
    CHECK(wanted == std::vector<ExpertKey>{ExpertKey{10}, ExpertKey{7}});
    wanted.clear();
    query.target_layer = LayerId{0};
    prefetcher->predict(query, wanted);
    CHECK(wanted == std::vector<ExpertKey>{ExpertKey{4}, ExpertKey{1}});
  }
}

}  // namespace moesim::test
