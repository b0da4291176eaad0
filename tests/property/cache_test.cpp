// What holds for every eviction policy, on random traces under all rules of the cache.
#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <string>

#include "core/rng.h"
#include "support/allocation_counter.h"
#include "support/cache_replay.h"
#include "support/testing.h"

namespace moesim::test {
namespace {

constexpr RoutingShape kShape{80, 3, 10};
constexpr std::size_t kMostPerVisit = 4;

std::vector<std::uint64_t> random_sizes(std::uint64_t seed, bool equal) {
  Rng rng(seed);
  std::vector<std::uint64_t> sizes(kShape.layers * kShape.experts, 1);
  for (std::uint64_t& size : sizes) size = equal ? 1 : 1 + rng.below(3);
  return sizes;
}

// Every rule of the cache, once each.
std::vector<CacheOptions> all_options(const std::vector<std::uint64_t>& capacities) {
  std::vector<CacheOptions> all;
  for (const std::uint64_t capacity : capacities) {
    for (int rule = 0; rule < 32; ++rule) {
      CacheOptions options;
      options.shape = kShape;
      options.scope = (rule & 1) != 0 ? CacheScope::kGlobal : CacheScope::kLayer;
      options.accounting = (rule & 2) != 0 ? Accounting::kAccess : Accounting::kEvent;
      options.overflow = (rule & 4) != 0 ? Overflow::kKeepEvent : Overflow::kTrim;
      options.touch_order = (rule & 8) != 0 ? TouchOrder::kAscending : TouchOrder::kDescending;
      options.expert_size = random_sizes(capacity, (rule & 16) != 0);
      options.capacity = capacity;
      all.push_back(std::move(options));
    }
  }
  return all;
}

std::string shown(const CacheOptions& options) {
  const auto flag = [](bool value, const char* text) { return std::string(value ? text : ""); };
  return std::to_string(options.capacity) + flag(options.scope == CacheScope::kGlobal, " global") +
         flag(options.accounting == Accounting::kAccess, " access") +
         flag(options.overflow == Overflow::kKeepEvent, " keep_event") +
         flag(options.touch_order == TouchOrder::kAscending, " ascending");
}

template <class Check>
void for_every_policy_and_rule(const std::vector<std::uint64_t>& capacities, Check&& check) {
  for (const std::string& policy : Registry<EvictionPolicy>::instance().names()) {
    CAPTURE(policy);
    for (const CacheOptions& options : all_options(capacities)) {
      CAPTURE(shown(options));
      check(Json{{"policy", policy}}, options);
    }
  }
}

// Drives a cache as an engine does, with speculative reads and resets, and checks it at each step.
class CheckedRun {
 public:
  CheckedRun(const CacheOptions& options, const Json& policy,
             const std::vector<RecordedVisit>& visits, std::uint64_t seed)
      : future_(future_of(visits, options.shape)),
        cache_(make_cache(options, policy, &future_)),
        accounting_(options.shape, options.expert_size),
        rng_(seed),
        last_members_(cache_.partitions()),
        arrived_(cache_.partitions()) {
    for (const RecordedVisit& visit : visits) {
      step(visit);
      speculate(visit.token);
      if (rng_.below(60) == 0) reset();
    }
  }

  [[nodiscard]] const std::vector<std::uint32_t>& log() const { return log_; }

 private:
  using Held = std::vector<Residency>;

  [[nodiscard]] Held states() const {
    Held states;
    for (std::size_t layer = 0; layer < kShape.layers; ++layer) {
      const auto of_layer = cache_.view(layer_id(layer)).states();
      states.insert(states.end(), of_layer.begin(), of_layer.end());
    }
    return states;
  }
  [[nodiscard]] std::size_t partition_of(std::size_t key) const {
    return cache_.partition_of(layer_id(key / kShape.experts));
  }

  void step(const RecordedVisit& visit) {
    const Held before = states();
    const EventOutcome outcome = replay_visit(cache_, visit);
    accounting_.count(visit.token, visit.layer, outcome);
    auto& members = last_members_[cache_.partition_of(visit.layer)];
    members.clear();
    arrived_[cache_.partition_of(visit.layer)].clear();
    REQUIRE(outcome.accesses.size() == visit.experts.size());
    for (std::size_t i = 0; i < visit.experts.size(); ++i) {
      const Access& access = outcome.accesses[i];
      REQUIRE(access.expert == visit.experts[i]);
      const std::size_t key = index(expert_key(visit.layer, access.expert, kShape.experts));
      members.insert(key);
      log_.push_back(static_cast<std::uint32_t>(access.kind));
      if (cache_.options().accounting == Accounting::kAccess && !visit.is_union) continue;
      REQUIRE((access.kind == AccessKind::kHit) == (before[key] == Residency::kResident));
      REQUIRE((access.kind == AccessKind::kLate) == (before[key] == Residency::kInFlight));
    }
    for (const ExpertKey key : outcome.evicted) log_.push_back(static_cast<std::uint32_t>(key));
    check_state();
  }

  void speculate(std::uint32_t token) {
    for (int i = 0; i < 3; ++i) {
      const std::size_t key = rng_.below(kShape.layers * kShape.experts);
      if (rng_.below(2) == 0) {
        cache_.finish_read(static_cast<ExpertKey>(key));
        arrived_[partition_of(key)].insert(key);
        REQUIRE(cache_.residency(static_cast<ExpertKey>(key)) != Residency::kInFlight);
        check_state();
        continue;
      }
      const Held before = states();
      std::span<const ExpertKey> evicted;
      if (!cache_.begin_read(static_cast<ExpertKey>(key), evicted)) {
        REQUIRE(states() == before);
        continue;
      }
      accounting_.count_speculative(token, static_cast<ExpertKey>(key), evicted);
      REQUIRE(before[key] == Residency::kAbsent);
      REQUIRE(cache_.used(partition_of(key)) <= cache_.capacity());
      for (const ExpertKey gone : evicted) {
        REQUIRE(!last_members_[partition_of(key)].contains(index(gone)));
        REQUIRE(before[index(gone)] == Residency::kResident);
        log_.push_back(static_cast<std::uint32_t>(gone));
      }
      check_state();
    }
  }

  void reset() {
    dropped_ += held();
    cache_.reset();
    REQUIRE(held() == 0);
    check_state();
  }

  [[nodiscard]] std::uint64_t held() const {
    const Held now = states();
    return now.size() -
           static_cast<std::uint64_t>(std::count(now.begin(), now.end(), Residency::kAbsent));
  }

  void check_state() const {
    const Held now = states();
    std::vector<std::uint64_t> used(cache_.partitions(), 0);
    // Members of the last event, and what was in flight when it ended.
    std::vector<std::uint64_t> spared(cache_.partitions(), 0);
    for (std::size_t key = 0; key < now.size(); ++key) {
      if (now[key] == Residency::kAbsent) continue;
      const std::size_t at = partition_of(key);
      used[at] += cache_.options().expert_size[key];
      if (now[key] == Residency::kInFlight || last_members_[at].contains(key) ||
          arrived_[at].contains(key)) {
        spared[at] += cache_.options().expert_size[key];
      }
    }
    const bool keeps = cache_.options().overflow == Overflow::kKeepEvent;
    for (std::size_t at = 0; at < used.size(); ++at) {
      REQUIRE(cache_.used(at) == used[at]);
      REQUIRE((used[at] <= cache_.capacity() || (keeps && used[at] == spared[at])));
    }
    const CacheCounts& counts = accounting_.counts();
    REQUIRE(counts.hits + counts.misses == counts.accesses);
    REQUIRE(counts.loads - counts.evictions == held() + dropped_);
  }

  FutureAccesses future_;
  ExpertCache cache_;
  CacheAccounting accounting_;
  Rng rng_;
  std::vector<std::set<std::size_t>> last_members_;  // keys of the last event, by partition
  std::vector<std::set<std::size_t>> arrived_;       // speculative reads since then, by partition
  std::vector<std::uint32_t> log_;
  std::uint64_t dropped_ = 0;  // by resets
};

CacheOptions equal_sizes(CacheScope scope, std::uint64_t capacity) {
  CacheOptions options;
  options.shape = kShape;
  options.scope = scope;
  options.capacity = capacity;
  return options;
}

}  // namespace

TEST_SUITE("cache properties") {
  TEST_CASE("capacity, counts and residency agree at every step, and a second run is equal") {
    const auto visits = random_visits(kShape, kMostPerVisit, 1, true);
    for_every_policy_and_rule({0, 2, 7, 16}, [&](const Json& policy, const CacheOptions& options) {
      const CheckedRun first(options, policy, visits, 5);
      const CheckedRun second(options, policy, visits, 5);
      CHECK(first.log() == second.log());
      CHECK(!first.log().empty());
    });
  }

  TEST_CASE("a visit allocates nothing") {
    const auto visits = random_visits(kShape, kMostPerVisit, 2, true);
    const FutureAccesses future = future_of(visits, kShape);
    for_every_policy_and_rule({3, 8}, [&](const Json& policy, const CacheOptions& options) {
      ExpertCache cache = make_cache(options, policy, &future);
      std::uint64_t after_half = 0;
      for (std::size_t i = 0; i < visits.size(); ++i) {
        if (i == visits.size() / 2) after_half = allocations();
        replay_visit(cache, visits[i]);
        std::span<const ExpertKey> evicted;
        const auto key = static_cast<ExpertKey>(i * 7 % (kShape.layers * kShape.experts));
        if (cache.begin_read(key, evicted)) cache.finish_read(key);
      }
      CHECK(allocations() == after_half);
    });
    const std::uint64_t before = allocations();
    CHECK(std::make_unique<int>(1) != nullptr);
    CHECK(allocations() > before);
  }

  TEST_CASE(
      "LRU holds the most recently touched experts, so a larger cache holds a smaller one's") {
    const auto visits = random_visits(kShape, kMostPerVisit, 31, true);
    for (const TouchOrder order : {TouchOrder::kDescending, TouchOrder::kAscending}) {
      std::vector<ExpertCache> caches;
      for (std::uint64_t capacity = 1; capacity <= kShape.experts; ++capacity) {
        CacheOptions options = equal_sizes(CacheScope::kLayer, capacity);
        options.touch_order = order;
        caches.push_back(make_cache(options, {{"policy", "lru"}}));
      }
      std::array<std::vector<int>, kShape.layers> touched;  // least recent first
      for (const RecordedVisit& visit : visits) {
        auto& recent = touched[index(visit.layer)];
        auto experts = visit.experts;
        if (order == TouchOrder::kAscending && !visit.is_union) {
          std::reverse(experts.begin(), experts.end());
        }
        for (const ExpertId expert : experts) {
          std::erase(recent, static_cast<int>(index(expert)));
          recent.push_back(static_cast<int>(index(expert)));
        }
        for (ExpertCache& cache : caches) {
          replay_visit(cache, visit);
          const std::size_t count = std::min<std::size_t>(cache.capacity(), recent.size());
          REQUIRE(
              residents_by_score(cache, visit.layer) ==
              std::vector<int>(recent.end() - static_cast<std::ptrdiff_t>(count), recent.end()));
        }
      }
    }
  }

  TEST_CASE("every resident has a finite score") {
    const auto visits = random_visits(kShape, kMostPerVisit, 41, false);
    const FutureAccesses future = future_of(visits, kShape);
    for (const std::string& policy : Registry<EvictionPolicy>::instance().names()) {
      CAPTURE(policy);
      ExpertCache cache =
          make_cache(equal_sizes(CacheScope::kGlobal, 12), {{"policy", policy}}, &future);
      for (const RecordedVisit& visit : visits) {
        replay_visit(cache, visit);
        for (std::size_t layer = 0; layer < kShape.layers; ++layer) {
          for (const int expert : residents(cache, layer_id(layer))) {
            const ExpertId id = expert_id(static_cast<std::size_t>(expert));
            REQUIRE(std::isfinite(cache.view(layer_id(layer)).eviction_score(id)));
          }
        }
      }
    }
  }
}

}  // namespace moesim::test
