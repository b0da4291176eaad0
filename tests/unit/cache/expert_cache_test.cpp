#include "cache/expert_cache.h"

#include "support/cache_replay.h"
#include "support/testing.h"

namespace moesim::test {
namespace {

using Ids = std::vector<int>;

CacheOptions options_for(std::size_t layers, std::size_t experts, std::uint64_t capacity) {
  CacheOptions options;
  options.shape = {100, layers, experts};
  options.capacity = capacity;
  return options;
}

ExpertCache lru_cache(const CacheOptions& options) {
  return make_cache(options, {{"policy", "lru"}});
}

ExpertKey key(std::uint32_t value) { return static_cast<ExpertKey>(value); }

// Kinds as letters, then what left: "hm -> 3".
std::string outcome_of(const EventOutcome& outcome, std::size_t experts) {
  std::string text;
  for (const Access& access : outcome.accesses) {
    text += access.kind == AccessKind::kHit ? 'h' : access.kind == AccessKind::kLate ? 'l' : 'm';
  }
  text += " ->";
  for (const int gone : numbers(outcome.evicted, experts)) {
    text += ' ';
    text += std::to_string(gone);
  }
  return text;
}

std::string visit(ExpertCache& cache, const Ids& best_first, std::uint32_t token = 0) {
  return outcome_of(cache.visit(token, LayerId{0}, expert_ids(best_first)),
                    cache.options().shape.experts);
}

}  // namespace

TEST_SUITE("expert cache") {
  TEST_CASE("an event is judged against the state before it") {
    ExpertCache cache = lru_cache(options_for(1, 6, 3));
    CHECK(visit(cache, {0, 1}) == "mm ->");
    CHECK(visit(cache, {1, 2}) == "hm ->");
    CHECK(visit(cache, {3, 0}) == "mh -> 1");
    CHECK(residents_by_score(cache, LayerId{0}) == Ids{2, 3, 0});
    CHECK(cache.used(0) == 3);
    CHECK(cache.events() == 3);
  }

  TEST_CASE("touch order decides who is the least recent of a visit") {
    CacheOptions options = options_for(1, 6, 2);
    ExpertCache descending = lru_cache(options);
    options.touch_order = TouchOrder::kAscending;
    ExpertCache ascending = lru_cache(options);
    for (ExpertCache* cache : {&descending, &ascending}) visit(*cache, {4, 5});
    CHECK(visit(descending, {0}) == "m -> 4");
    CHECK(visit(ascending, {0}) == "m -> 5");
  }

  TEST_CASE("one by one, an earlier miss evicts what the visit still needs") {
    CacheOptions options = options_for(1, 6, 2);
    options.accounting = Accounting::kAccess;
    ExpertCache cache = lru_cache(options);
    CHECK(visit(cache, {0, 1}) == "mm ->");
    const EventOutcome outcome = cache.visit(1, LayerId{0}, expert_ids({2, 0}));
    CHECK(outcome_of(outcome, 6) == "mm -> 0 1");
    CHECK(outcome.accesses[0].evicted_before == 0);
    CHECK(outcome.accesses[1].evicted_before == 1);
    CHECK(outcome.accesses[0].cold);
    CHECK(!outcome.accesses[1].cold);
  }

  TEST_CASE("a union pass is one event in the order given, whatever accounting and touch order") {
    CacheOptions options = options_for(1, 6, 2);
    options.accounting = Accounting::kAccess;
    options.touch_order = TouchOrder::kAscending;
    ExpertCache cache = lru_cache(options);
    visit(cache, {0, 1});
    const EventOutcome outcome = cache.visit_union(0, LayerId{0}, expert_ids({5, 1, 0}));
    CHECK(outcome_of(outcome, 6) == "mhh -> 5");
    CHECK(residents_by_score(cache, LayerId{0}) == Ids{1, 0});
  }

  TEST_CASE("trim keeps the most recently touched, keep_event keeps all until the next") {
    CacheOptions options = options_for(1, 6, 2);
    ExpertCache trimmed = lru_cache(options);
    CHECK(visit(trimmed, {0, 1, 2}) == "mmm -> 0");
    options.overflow = Overflow::kKeepEvent;
    ExpertCache kept = lru_cache(options);
    CHECK(visit(kept, {0, 1, 2}) == "mmm ->");
    CHECK(kept.used(0) == 3);
    CHECK(visit(kept, {2}) == "h -> 0");
    CHECK(kept.used(0) == 2);
  }

  TEST_CASE("trim falls back to touch order where the policy protects the event") {
    CacheOptions options = options_for(1, 6, 2);
    ExpertCache cache = make_cache(options, {{"policy", "lfu"}});
    visit(cache, {3});
    CHECK(visit(cache, {0, 1, 2}) == "mmm -> 3 0");
    options.touch_order = TouchOrder::kAscending;
    ExpertCache ascending = make_cache(options, {{"policy", "lfu"}});
    CHECK(visit(ascending, {0, 1, 2}) == "mmm -> 2");
  }

  TEST_CASE("capacity 0 streams") {
    ExpertCache cache = lru_cache(options_for(1, 4, 0));
    CHECK(visit(cache, {0, 1}) == "mm ->");
    const EventOutcome outcome = cache.visit(1, LayerId{0}, expert_ids({0, 1}));
    CHECK(outcome_of(outcome, 4) == "mm ->");
    CHECK(outcome.streamed);
    CHECK(!outcome.accesses[0].cold);
    CHECK(outcome.number == 1);
    CHECK(cache.used(0) == 0);
    std::span<const ExpertKey> evicted;
    CHECK(!cache.begin_read(key(0), evicted));
  }

  TEST_CASE("layers have caches of their own, or share one") {
    CacheOptions options = options_for(2, 4, 2);
    ExpertCache layered = lru_cache(options);
    options.scope = CacheScope::kGlobal;
    ExpertCache shared = lru_cache(options);
    for (ExpertCache* cache : {&layered, &shared}) {
      cache->visit(0, LayerId{0}, expert_ids({0, 1}));
      cache->visit(0, LayerId{1}, expert_ids({2, 3}));
    }
    CHECK(layered.partitions() == 2);
    CHECK(layered.partition_of(LayerId{1}) == 1);
    CHECK(residents(layered, LayerId{0}) == Ids{0, 1});
    CHECK(shared.partitions() == 1);
    CHECK(shared.partition_of(LayerId{1}) == 0);
    CHECK(residents(shared, LayerId{0}) == Ids{});
    CHECK(residents(shared, LayerId{1}) == Ids{2, 3});
  }

  TEST_CASE("sizes count against the capacity") {
    CacheOptions options = options_for(1, 4, 10);
    options.expert_size = {6, 3, 3, 4};
    ExpertCache cache = lru_cache(options);
    CHECK(visit(cache, {0, 1}) == "mm ->");
    CHECK(cache.used(0) == 9);
    CHECK(visit(cache, {2}) == "m -> 0");
    CHECK(visit(cache, {3}) == "m ->");
    CHECK(cache.used(0) == 10);
    CHECK(visit(cache, {0}) == "m -> 1 2");
    CHECK(cache.used(0) == 10);
  }

  TEST_CASE("belady: a hit that makes room for its own event is taken back without a read") {
    const std::vector<RecordedVisit> visits = {{0, LayerId{0}, expert_ids({0, 1}), false},
                                               {1, LayerId{0}, expert_ids({2, 0}), false},
                                               {2, LayerId{0}, expert_ids({1, 2}), false}};
    const CacheOptions options = options_for(1, 4, 2);
    const FutureAccesses future = future_of(visits, options.shape);
    ExpertCache cache = make_cache(options, {{"policy", "belady"}}, &future);
    replay_visit(cache, visits[0]);
    // 2 pushes out 0, which is never used again; then 0 comes back in place of the later of 1
    // and 2, which are used in the same event.
    CHECK(outcome_of(replay_visit(cache, visits[1]), 4) == "mh -> 2");
    CHECK(residents(cache, LayerId{0}) == Ids{0, 1});
  }

  TEST_CASE("a speculative read takes room at once and is resident when it arrives") {
    ExpertCache cache = lru_cache(options_for(1, 6, 3));
    visit(cache, {0, 1});
    visit(cache, {2});
    std::span<const ExpertKey> evicted;
    REQUIRE(cache.begin_read(key(5), evicted));
    CHECK(numbers(evicted, 6) == Ids{0});
    CHECK(cache.residency(key(5)) == Residency::kInFlight);
    CHECK(cache.used(0) == 3);
    CHECK(!cache.begin_read(key(5), evicted));  // under way
    CHECK(!cache.begin_read(key(1), evicted));  // resident
    CHECK(evicted.empty());
    cache.finish_read(key(5));
    CHECK(residents_by_score(cache, LayerId{0}) == Ids{1, 2, 5});
    CHECK(visit(cache, {5}) == "h ->");
  }

  TEST_CASE("a demanded read is late, and its arrival changes nothing more") {
    ExpertCache cache = lru_cache(options_for(1, 6, 3));
    std::span<const ExpertKey> evicted;
    REQUIRE(cache.begin_read(key(4), evicted));
    CHECK(visit(cache, {4, 0}) == "lm ->");
    CHECK(cache.residency(key(4)) == Residency::kResident);
    CHECK(cache.used(0) == 2);
    visit(cache, {1});
    cache.finish_read(key(4));
    CHECK(residents_by_score(cache, LayerId{0}) == Ids{4, 0, 1});
    cache.finish_read(key(5));
    CHECK(cache.residency(key(5)) == Residency::kAbsent);
  }

  TEST_CASE("a speculative read never evicts the last event or what is in flight") {
    ExpertCache cache = lru_cache(options_for(1, 6, 3));
    visit(cache, {0, 1});
    std::span<const ExpertKey> evicted;
    REQUIRE(cache.begin_read(key(2), evicted));
    CHECK(!cache.begin_read(key(3), evicted));
    CHECK(residents(cache, LayerId{0}) == Ids{0, 1});
    CHECK(visit(cache, {4, 5}) == "mm -> 0 1");
    CHECK(visit(cache, {3, 0, 1}) == "mmm -> 4 5 3");  // the read under way keeps its room
    CHECK(cache.residency(key(2)) == Residency::kInFlight);
    CHECK(cache.used(0) == 3);
  }

  TEST_CASE("a speculative read larger than the capacity is refused") {
    CacheOptions options = options_for(1, 2, 3);
    options.expert_size = {4, 1};
    ExpertCache cache = lru_cache(options);
    std::span<const ExpertKey> evicted;
    CHECK(!cache.begin_read(key(0), evicted));
    CHECK(visit(cache, {0}) == "m -> 0");
  }

  TEST_CASE("reset empties the cache, but what was seen stays seen") {
    ExpertCache cache = lru_cache(options_for(1, 6, 3));
    visit(cache, {0, 1});
    std::span<const ExpertKey> evicted;
    REQUIRE(cache.begin_read(key(4), evicted));
    cache.reset();
    CHECK(cache.used(0) == 0);
    CHECK(residents(cache, LayerId{0}).empty());
    cache.finish_read(key(4));
    CHECK(cache.residency(key(4)) == Residency::kAbsent);
    const EventOutcome outcome = cache.visit(1, LayerId{0}, expert_ids({1, 5}));
    CHECK(outcome_of(outcome, 6) == "mm ->");
    CHECK(!outcome.accesses[0].cold);
    CHECK(outcome.accesses[1].cold);
    CHECK(outcome.number == 1);
  }
}

}  // namespace moesim::test
