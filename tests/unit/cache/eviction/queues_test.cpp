// The policies with queues: what the references of tests/property/eviction_reference_test.cpp leave
// open, because they know no events, sizes and speculative reads.
#include <string>

#include "support/cache_replay.h"
#include "support/testing.h"

namespace moesim::test {
namespace {

using Ids = std::vector<int>;

ExpertCache cache_of(const Json& policy, std::uint64_t capacity,
                     const std::vector<std::uint64_t>& sizes = {}) {
  CacheOptions options;
  options.shape = {20, 1, 10};
  options.capacity = capacity;
  options.expert_size = sizes;
  return make_cache(options, policy);
}

Ids evicted_by(ExpertCache& cache, const Ids& experts) {
  static std::uint32_t token = 0;
  return numbers(cache.visit(++token, LayerId{}, expert_ids(experts)).evicted, 10);
}

void prefetch(ExpertCache& cache, ExpertKey key) {
  std::span<const ExpertKey> evicted;
  REQUIRE(cache.begin_read(key, evicted));
  cache.finish_read(key);
}

}  // namespace

TEST_SUITE("eviction queues") {
  TEST_CASE("fifo takes the first loaded, lifo the last, whatever is used in between") {
    for (const bool lifo : {false, true}) {
      CAPTURE(lifo);
      ExpertCache cache = cache_of({{"policy", lifo ? "lifo" : "fifo"}}, 3);
      evicted_by(cache, {4});
      evicted_by(cache, {5});
      evicted_by(cache, {6});
      CHECK(evicted_by(cache, {4}).empty());
      CHECK(residents_by_score(cache, LayerId{}) == (lifo ? Ids{6, 5, 4} : Ids{4, 5, 6}));
      CHECK(evicted_by(cache, {7}) == (lifo ? Ids{6} : Ids{4}));
      CHECK(evicted_by(cache, {8}) == (lifo ? Ids{7} : Ids{5}));
    }
  }

  TEST_CASE("experts that are used at once leave only when no others are left") {
    for (const char* policy :
         {"fifo", "lifo", "sieve", "s3_fifo", "arc", "random", "least_stale"}) {
      CAPTURE(policy);
      ExpertCache cache = cache_of({{"policy", policy}}, 3);
      evicted_by(cache, {0});
      evicted_by(cache, {1});
      evicted_by(cache, {2});
      CHECK(evicted_by(cache, {0, 2, 3}) == Ids{1});
      // A union pass that is larger than the cache.
      const auto all = expert_ids({0, 1, 2, 3, 4, 5, 6});
      cache.visit_union(1, LayerId{}, all);
      CHECK(residents(cache, LayerId{}).size() == 3);
    }
  }

  TEST_CASE("a speculative read is no use") {
    // Expert 1 is prefetched and then used once; 0 is used twice. Both policies tell them apart.
    for (const char* policy : {"sieve", "arc"}) {
      CAPTURE(policy);
      ExpertCache cache = cache_of({{"policy", policy}}, 2);
      evicted_by(cache, {0});
      prefetch(cache, ExpertKey{1});
      evicted_by(cache, {0});
      evicted_by(cache, {1});
      CHECK(residents_by_score(cache, LayerId{}) == Ids{1, 0});
      CHECK(evicted_by(cache, {2}) == Ids{1});
    }
    // s3_fifo: expert 1 is used once more than it takes to leave, had the read been a use.
    ExpertCache cache = cache_of({{"policy", "s3_fifo"}, {"promote_at", 1}}, 2);
    prefetch(cache, ExpertKey{1});
    evicted_by(cache, {1});
    evicted_by(cache, {0});
    CHECK(evicted_by(cache, {2}) == Ids{1});
  }

  TEST_CASE("s3_fifo: from the small queue to the main one, or out and remembered") {
    ExpertCache cache = cache_of({{"policy", "s3_fifo"}}, 4);
    for (const int expert : {0, 1, 2, 3}) evicted_by(cache, {expert});
    evicted_by(cache, {0});
    evicted_by(cache, {0});
    evicted_by(cache, {1});
    CHECK(evicted_by(cache, {4}) == Ids{1});  // 0 was used twice again and moves on, 1 only once
    CHECK(evicted_by(cache, {1}) == Ids{2});  // 1 is remembered and enters the main queue
    CHECK(residents_by_score(cache, LayerId{}) == Ids{3, 4, 0, 1});
    cache.reset();
    for (const int expert : {1, 5, 6, 7}) evicted_by(cache, {expert});
    CHECK(evicted_by(cache, {8}) == Ids{1});  // no ghost outlives a reset
  }

  TEST_CASE("s3_fifo: its parameters") {
    // With three quarters for the small queue the main queue (1 of 4) gives way first.
    const auto first_victim = [](const Json& policy) {
      ExpertCache cache = cache_of(policy, 4);
      for (const int expert : {0, 1, 2, 3}) evicted_by(cache, {expert});
      for (const int expert : {0, 0, 1, 1}) evicted_by(cache, {expert});
      return evicted_by(cache, {4});
    };
    CHECK(first_victim({{"policy", "s3_fifo"}}) == Ids{2});
    CHECK(first_victim({{"policy", "s3_fifo"}, {"small_share", 0.75}}) == Ids{0});
    CHECK(first_victim({{"policy", "s3_fifo"}, {"promote_at", 3}}) == Ids{0});
    for (const double share : {0.0, 1.0}) {
      CHECK(contains(user_error_of([&] {
                       cache_of({{"policy", "s3_fifo"}, {"small_share", share}}, 4);
                     }),
                     "test: /cache/eviction/small_share: expected a number > 0 and < 1, got"));
    }
    CHECK(contains(user_error_of([] {
                     cache_of({{"policy", "s3_fifo"}, {"promote_at", 4}}, 4);
                   }),
                   "test: /cache/eviction/promote_at: expected an integer in [1, 3], got 4"));
  }

  TEST_CASE("arc: a ghost of T1 lets T1 grow") {
    ExpertCache cache = cache_of({{"policy", "arc"}}, 3);
    for (const int expert : {0, 0, 1, 2}) evicted_by(cache, {expert});
    CHECK(evicted_by(cache, {3}) == Ids{1});  // T1 = 2, 3; T2 = 0; B1 = 1; p = 0
    CHECK(evicted_by(cache, {1}) == Ids{2});  // B1 remembers: p = 1
    // T1 = 3 is no larger than p = 1, so the next to leave is the least recent of T2.
    CHECK(evicted_by(cache, {4}) == Ids{0});
  }

  TEST_CASE("queues and ghosts count sizes") {
    // Capacity 10: the small queue's target is 1, ghosts may take 9.
    const std::vector<std::uint64_t> sizes{6, 4, 4, 2, 2, 5, 5, 5, 5, 5};
    for (const char* policy : {"fifo", "lifo", "sieve", "s3_fifo", "arc", "random"}) {
      CAPTURE(policy);
      ExpertCache cache = cache_of({{"policy", policy}}, 10, sizes);
      evicted_by(cache, {3});
      evicted_by(cache, {4});
      evicted_by(cache, {0});
      const Ids gone = evicted_by(cache, {5});
      CHECK(cache.used(0) <= 10);
      if (std::string(policy) == "fifo") CHECK(gone == Ids{3, 4, 0});
      if (std::string(policy) == "lifo") CHECK(gone == Ids{0});
    }
    ExpertCache cache = cache_of({{"policy", "s3_fifo"}}, 10, sizes);
    for (const int expert : {5, 6, 7}) evicted_by(cache, {expert});
    CHECK(evicted_by(cache, {8}) == Ids{6});
    // The ghosts hold 9: 5 of size 5 made way for 6.
    CHECK(evicted_by(cache, {5}) == Ids{7});
    CHECK(evicted_by(cache, {7}) == Ids{8});
  }
}

TEST_SUITE("eviction least_stale") {
  TEST_CASE("what an earlier pass used leaves first, the lowest layer first") {
    CacheOptions options;
    options.shape = {20, 4, 4};
    options.scope = CacheScope::kGlobal;
    options.capacity = 4;
    ExpertCache cache = make_cache(options, {{"policy", "least_stale"}});
    const auto visit = [&](std::uint32_t token, std::size_t layer, int expert) {
      return numbers(cache.visit(token, layer_id(layer), expert_ids({expert})).evicted, 16);
    };
    for (const std::size_t layer : {0, 1, 2, 3}) visit(1, layer, 0);
    CHECK(visit(2, 0, 0).empty());
    // Layer 0 is used in this pass; of the stale, layer 1 is lowest although its turn comes next.
    CHECK(visit(2, 1, 1) == Ids{4});
    CHECK(visit(2, 2, 1) == Ids{8});
    CHECK(visit(2, 3, 1) == Ids{12});
    // Nothing is stale: the current queue, by layer too, but not the expert that enters.
    std::span<const ExpertKey> evicted;
    REQUIRE(cache.begin_read(ExpertKey{14}, evicted));
    CHECK(numbers(evicted, 16) == Ids{0});
    cache.finish_read(ExpertKey{14});
    CHECK(cache.view(layer_id(1)).eviction_score(expert_id(1)) >
          cache.view(layer_id(2)).eviction_score(expert_id(1)));
    // A prefetched expert is of the pass that read it, and stale in the next.
    CHECK(visit(3, 0, 2) == Ids{5});
    CHECK(visit(3, 1, 2) == Ids{9});
  }

  TEST_CASE("a pass begins where the layer goes back, too") {
    CacheOptions options;
    options.shape = {20, 2, 4};
    options.scope = CacheScope::kGlobal;
    options.capacity = 3;
    ExpertCache cache = make_cache(options, {{"policy", "least_stale"}});
    // A prefill has the token number of what came before it.
    for (const std::size_t layer : {0, 1}) cache.visit(0, layer_id(layer), expert_ids({0}));
    for (const std::size_t layer : {0, 1}) cache.visit(0, layer_id(layer), expert_ids({1}));
    CHECK(residents(cache, LayerId{0}) == Ids{1});
    CHECK(residents(cache, layer_id(1)) == Ids{0, 1});
  }
}

TEST_SUITE("eviction lfru") {
  TEST_CASE("the lowest count / (age + 1) leaves, equal scores by the lowest id") {
    CacheOptions options;
    options.shape = {20, 1, 10};
    options.capacity = 3;
    ExpertCache cache = make_cache(options, {{"policy", "lfru"}});
    const auto visit = [&](std::uint32_t token, int expert) {
      return numbers(cache.visit(token, LayerId{}, expert_ids({expert})).evicted, 10);
    };
    for (std::uint32_t token = 0; token < 4; ++token) visit(token, 7);  // 4 uses, last at 3
    visit(4, 2);
    visit(6, 1);
    // At 7: 7 has 4 / 5, 2 has 1 / 4, 1 has 1 / 2.
    CHECK(visit(7, 3) == Ids{2});
    CHECK(residents_by_score(cache, LayerId{}) == Ids{1, 7, 3});
    // At 10: 7 has 4 / 8, 1 has 1 / 5, 3 has 1 / 4.
    CHECK(visit(10, 4) == Ids{1});
    // At 11: 7 has 4 / 9, 3 has 1 / 5, 4 has 1 / 2; counts outlive eviction, so 2 has 2 / 1.
    CHECK(visit(11, 2) == Ids{3});
    // At 19: 7 has 4 / 17, 4 has 1 / 10, 2 has 2 / 9.
    CHECK(visit(19, 0) == Ids{4});
  }

  TEST_CASE("counts that die with eviction, and no protection") {
    CacheOptions options;
    options.shape = {20, 1, 10};
    options.capacity = 1;
    ExpertCache open = make_cache(options, {{"policy", "lfru"}, {"protect_current_token", false}});
    open.visit(0, LayerId{}, expert_ids({0}));
    open.visit(0, LayerId{}, expert_ids({0}));
    CHECK(numbers(open.visit(0, LayerId{}, expert_ids({1})).evicted, 10) == Ids{1});
    for (const bool persistent : {true, false}) {
      CAPTURE(persistent);
      options.capacity = 2;
      ExpertCache cache = make_cache(
          options, {{"policy", "lfru"}, {"counts", persistent ? "persistent" : "resident"}});
      std::uint32_t token = 0;
      const auto visit = [&](int expert) {
        return numbers(cache.visit(++token, LayerId{}, expert_ids({expert})).evicted, 10);
      };
      for (const int expert : {0, 0, 0, 1, 1, 1, 1, 1}) visit(expert);
      CHECK(visit(2) == Ids{0});
      CHECK(visit(0) == Ids{2});
      // Of token 12: 1 has 5 / 5; 0 has 4 / 3 where its three uses before count, else 1 / 3.
      ++token;
      CHECK(visit(3) == (persistent ? Ids{1} : Ids{0}));
    }
  }
}

TEST_SUITE("eviction random") {
  TEST_CASE("every resident is drawn about as often, and the seed decides") {
    const auto draws = [](std::uint64_t seed) {
      EvictionContext context;
      context.shape = {1, 1, 8};
      context.seed = seed;
      auto policy = make_eviction({{"policy", "random"}}, context);
      std::vector<std::uint32_t> stamps(8, 0);
      stamps[7] = 1;  // a member of event 0
      const CacheEvent event(0, 0, LayerId{}, 0, stamps, EventKind::kOneByOne);
      for (std::uint32_t key = 0; key < 8; ++key) policy->on_insert(ExpertKey{key}, event);
      std::vector<int> counts(8, 0);
      for (int i = 0; i < 7000; ++i) ++counts[index(*policy->victim(event, true))];
      return counts;
    };
    const std::vector<int> counts = draws(1);
    CHECK(counts[7] == 0);
    for (std::size_t key = 0; key < 7; ++key) {
      // 1000 expected, standard deviation 29.
      CHECK(counts[key] > 850);
      CHECK(counts[key] < 1150);
    }
    CHECK(draws(1) == counts);
    CHECK(draws(2) != counts);
  }
}

}  // namespace moesim::test
