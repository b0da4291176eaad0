// The offline policies against brute force: nothing does better, and they do as well.
#include <algorithm>
#include <set>
#include <string>

#include "core/rng.h"
#include "support/cache_replay.h"
#include "support/testing.h"

namespace moesim::test {
namespace {

constexpr RoutingShape kShape{80, 3, 10};
constexpr std::size_t kMostPerVisit = 4;

// Belady's algorithm by scanning the accesses of one partition, written down one by one.
std::uint64_t brute_force_misses(const std::vector<std::size_t>& accesses, std::uint64_t capacity,
                                 bool bypass) {
  std::set<std::size_t> held;
  std::uint64_t misses = 0;
  for (std::size_t i = 0; i < accesses.size(); ++i) {
    if (held.contains(accesses[i])) continue;
    ++misses;
    const auto distance = [&](std::size_t key) {
      return std::find(accesses.begin() + static_cast<std::ptrdiff_t>(i) + 1, accesses.end(), key) -
             accesses.begin();
    };
    if (bypass) held.insert(accesses[i]);
    if (held.size() + (bypass ? 0 : 1) > capacity) {
      held.erase(*std::max_element(held.begin(), held.end(), [&](std::size_t a, std::size_t b) {
        return distance(a) < distance(b);
      }));
    }
    if (!bypass) held.insert(accesses[i]);
  }
  return misses;
}

std::uint64_t brute_force_misses(const std::vector<RecordedVisit>& visits, CacheScope scope,
                                 std::uint64_t capacity, bool bypass) {
  std::uint64_t misses = 0;
  const std::size_t partitions = scope == CacheScope::kGlobal ? 1 : kShape.layers;
  for (std::size_t at = 0; at < partitions; ++at) {
    std::vector<std::size_t> accesses;
    for (const RecordedVisit& visit : visits) {
      if (scope == CacheScope::kLayer && index(visit.layer) != at) continue;
      for (const ExpertId expert : visit.experts) {
        accesses.push_back(index(expert_key(visit.layer, expert, kShape.experts)));
      }
    }
    misses += brute_force_misses(accesses, capacity, bypass);
  }
  return misses;
}

// The most hits that any choice of residents gives, with events judged at once: dynamic programming
// over all sets that fit.
int most_hits(const std::vector<std::vector<int>>& events, int experts, int capacity) {
  const std::size_t sets = std::size_t{1} << experts;
  std::vector<int> best(sets, -1);
  best[0] = 0;
  for (const auto& event : events) {
    unsigned used = 0;
    for (const int e : event) used |= 1U << e;
    std::vector<int> next(sets, -1);
    for (unsigned held = 0; held < sets; ++held) {
      if (best[held] < 0) continue;
      const int hits = best[held] + __builtin_popcount(held & used);
      const unsigned pool = held | used;
      for (unsigned kept = pool;; kept = (kept - 1) & pool) {
        if (__builtin_popcount(kept) <= capacity) next[kept] = std::max(next[kept], hits);
        if (kept == 0) break;
      }
    }
    best = next;
  }
  return *std::max_element(best.begin(), best.end());
}

CacheOptions one_by_one(CacheScope scope, Overflow overflow, std::uint64_t capacity) {
  CacheOptions options;
  options.shape = kShape;
  options.scope = scope;
  options.accounting = Accounting::kAccess;
  options.overflow = overflow;
  options.capacity = capacity;
  return options;
}

}  // namespace

TEST_SUITE("cache optimum") {
  TEST_CASE("no policy beats the offline ones where accesses are judged one by one") {
    for (std::uint64_t seed = 10; seed < 14; ++seed) {
      const auto visits = random_visits(kShape, kMostPerVisit, seed, false);
      for (const CacheScope scope : {CacheScope::kLayer, CacheScope::kGlobal}) {
        for (const std::uint64_t capacity : {std::uint64_t{4}, std::uint64_t{7}}) {
          CAPTURE(seed);
          CAPTURE(capacity);
          const auto misses = [&](const std::string& policy, Overflow overflow) {
            return replay(one_by_one(scope, overflow, capacity), {{"policy", policy}}, visits)
                .misses;
          };
          const std::uint64_t forced = brute_force_misses(visits, scope, capacity, false);
          const std::uint64_t bypass = brute_force_misses(visits, scope, capacity, true);
          CHECK(misses("belady", Overflow::kTrim) == forced);
          CHECK(misses("min_bypass", Overflow::kTrim) == bypass);
          for (const std::string& policy : Registry<EvictionPolicy>::instance().names()) {
            CAPTURE(policy);
            CHECK(misses(policy, Overflow::kTrim) >= bypass);
            // The causal ones keep what they read, too.
            if (policy != "min_bypass") CHECK(misses(policy, Overflow::kTrim) >= forced);
            // What is spared to the end of its visit has entered, so nothing is bypassed.
            CHECK(misses(policy, Overflow::kKeepEvent) >= forced);
          }
        }
      }
    }
  }

  TEST_CASE("no policy beats min_bypass where events are judged at once") {
    for (std::uint64_t seed = 30; seed < 34; ++seed) {
      const auto visits = random_visits(kShape, kMostPerVisit, seed, false);
      for (int rule = 0; rule < 8; ++rule) {
        CAPTURE(seed);
        CAPTURE(rule);
        CacheOptions options = one_by_one(
            (rule & 1) != 0 ? CacheScope::kGlobal : CacheScope::kLayer,
            (rule & 2) != 0 ? Overflow::kKeepEvent : Overflow::kTrim, (rule & 4) != 0 ? 7 : 4);
        options.accounting = Accounting::kEvent;
        const auto misses = [&](const std::string& policy) {
          return replay(options, {{"policy", policy}}, visits).misses;
        };
        const std::uint64_t fewest = misses("min_bypass");
        for (const std::string& policy : Registry<EvictionPolicy>::instance().names()) {
          CAPTURE(policy);
          CHECK(misses(policy) >= fewest);
        }
      }
    }
  }

  TEST_CASE("with events judged at once min_bypass is the optimum over all choices") {
    Rng rng(21);
    for (int round = 0; round < 60; ++round) {
      const int experts = 5;
      const int capacity = 2 + static_cast<int>(rng.below(2));
      std::vector<std::vector<int>> events(14);
      std::vector<RecordedVisit> visits;
      for (auto& event : events) {
        event.push_back(static_cast<int>(rng.below(experts)));
        const int other = static_cast<int>(rng.below(experts));
        if (other != event[0]) event.push_back(other);
        visits.push_back(
            {static_cast<std::uint32_t>(visits.size()), LayerId{}, expert_ids(event), false});
      }
      CacheOptions options;
      options.shape = {events.size(), 1, experts};
      options.capacity = static_cast<std::uint64_t>(capacity);
      const auto hits = [&](const char* policy) {
        return replay(options, {{"policy", policy}}, visits).hits;
      };
      const auto most = static_cast<std::uint64_t>(most_hits(events, experts, capacity));
      CHECK(hits("min_bypass") == most);
      for (const std::string& policy : Registry<EvictionPolicy>::instance().names()) {
        CAPTURE(policy);
        CHECK(hits(policy.c_str()) <= most);
      }
    }
  }
}

}  // namespace moesim::test
