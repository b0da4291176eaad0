// Bounds on hits: against brute force over all choices, and against every policy of the registry.
#include "engine/hit_bounds.h"

#include <algorithm>
#include <string>

#include "core/rng.h"
#include "support/cache_replay.h"
#include "support/testing.h"

namespace moesim::test {
namespace {

AccessLog log_of(const std::vector<RecordedVisit>& visits, const RoutingShape& shape,
                 std::uint32_t first_measured, std::uint32_t reset_at) {
  AccessLog log(shape, visits.size(), visits.size() * shape.experts);
  for (const RecordedVisit& visit : visits) {
    std::vector<Access> accesses;
    for (const ExpertId expert : visit.experts) accesses.push_back({expert});
    const bool resets = visit.token == reset_at && visit.layer == LayerId{} && !visit.is_union;
    log.add({visit.layer, visit.is_union, visit.token >= first_measured, resets}, accesses);
  }
  log.finish();
  return log;
}

std::uint64_t hits_of(const std::string& policy, const AccessLog& log,
                      const CacheOptions& options) {
  EvictionContext context;
  context.shape = options.shape;
  context.partitions = options.scope == CacheScope::kGlobal ? 1 : options.shape.layers;
  context.future = &log.accesses();
  context.capacity = options.capacity;
  context.expert_size = options.expert_size;
  return replay_accesses(log, options, make_eviction({{"policy", policy}}, context),
                         options.expert_size)
      .measured.hits;
}

// One layer: the most measured hits of any choice of residents, by dynamic programming over sets.
class BruteForce {
 public:
  explicit BruteForce(const CacheOptions& options)
      : options_(options), best_(std::size_t{1} << options.shape.experts, -1) {
    best_[initial()] = 0;
  }

  void reset() {
    const int most = *std::max_element(best_.begin(), best_.end());
    std::fill(best_.begin(), best_.end(), -1);
    best_[initial()] = most;
  }
  void step(std::span<const ExpertKey> used_keys, bool measured) {
    unsigned used = 0;
    for (const ExpertKey key : used_keys) used |= 1U << index(key);
    std::vector<int> next(best_.size(), -1);
    for (unsigned held = 0; held < best_.size(); ++held) {
      if (best_[held] < 0) continue;
      const int hits = best_[held] + (measured ? __builtin_popcount(held & used) : 0);
      const unsigned pool = held | used;
      for (unsigned kept = pool;; kept = (kept - 1) & pool) {
        if (allowed(kept, used)) next[kept] = std::max(next[kept], hits);
        if (kept == 0) break;
      }
    }
    best_ = next;
  }
  [[nodiscard]] std::uint64_t most() const {
    return static_cast<std::uint64_t>(*std::max_element(best_.begin(), best_.end()));
  }

 private:
  [[nodiscard]] unsigned initial() const {
    unsigned held = 0;
    for (const ExpertKey key : options_.initial) {
      if (size(held | 1U << index(key)) <= options_.capacity) held |= 1U << index(key);
    }
    return held;
  }
  [[nodiscard]] std::uint64_t size(unsigned set) const {
    std::uint64_t sum = 0;
    for (std::size_t e = 0; e < options_.shape.experts; ++e) {
      if ((set >> e & 1U) != 0) sum += options_.expert_size[e];
    }
    return sum;
  }
  [[nodiscard]] bool allowed(unsigned kept, unsigned used) const {
    if (options_.overflow == Overflow::kTrim) return size(kept) <= options_.capacity;
    return (kept & used) == used && (size(kept) <= options_.capacity || kept == used);
  }

  const CacheOptions& options_;
  std::vector<int> best_;  // [sets], -1 where it cannot be
};

CacheOptions random_options(Rng& rng, const RoutingShape& shape, bool equal) {
  CacheOptions options;
  options.shape = shape;
  options.accounting = rng.below(2) == 0 ? Accounting::kAccess : Accounting::kEvent;
  options.expert_size.assign(shape.layers * shape.experts, 2);
  for (std::uint64_t& size : options.expert_size) size = equal ? 2 : 1 + rng.below(4);
  options.capacity = 4 + rng.below(6);
  if (rng.below(2) == 0) {
    options.initial = {static_cast<ExpertKey>(rng.below(2)), static_cast<ExpertKey>(3)};
  }
  return options;
}

}  // namespace

TEST_SUITE("hit bounds") {
  TEST_CASE("the best of all choices lies between them, and with equal sizes on both") {
    constexpr RoutingShape kShape{16, 1, 6};
    Rng rng(3);
    std::size_t apart = 0;
    std::uint64_t gaps = 0;
    for (int round = 0; round < 120; ++round) {
      CAPTURE(round);
      const bool equal = round % 3 == 0;
      CacheOptions options = random_options(rng, kShape, equal);
      if (rng.below(3) == 0) {
        options.accounting = Accounting::kEvent;
        options.overflow = Overflow::kKeepEvent;
      }
      const auto visits = random_visits(kShape, 3, 100 + static_cast<std::uint64_t>(round), false);
      const AccessLog log = log_of(visits, kShape, 4, 11);
      BruteForce best(options);
      for (std::size_t number = 0; number < log.events(); ++number) {
        if (log.event(number).resets_before) best.reset();
        const auto keys = log.accesses().event(number);
        const std::size_t length = options.accounting == Accounting::kAccess ? 1 : keys.size();
        for (std::size_t i = 0; i < keys.size(); i += length) {
          best.step(keys.subspan(i, length), log.event(number).measured);
        }
      }
      const HitBounds bounds = hit_bounds(log, options);
      CHECK(bounds.lower <= best.most());
      CHECK(best.most() <= bounds.upper);
      if (equal) CHECK(bounds.lower == bounds.upper);
      apart += bounds.lower == bounds.upper ? 0 : 1;
      gaps += bounds.upper - bounds.lower;
    }
    CHECK(apart > 10);
    CHECK(gaps < 6 * apart);  // hits, of 20 to 30 accesses
  }

  TEST_CASE("no policy of the registry has more hits than the upper bound") {
    constexpr RoutingShape kShape{80, 3, 10};
    const auto visits = random_visits(kShape, 4, 7, true);
    Rng rng(5);
    for (int rule = 0; rule < 64; ++rule) {
      CAPTURE(rule);
      const bool equal = (rule & 1) != 0;
      CacheOptions options = random_options(rng, kShape, equal);
      options.accounting = (rule & 2) != 0 ? Accounting::kAccess : Accounting::kEvent;
      options.scope = (rule & 4) != 0 ? CacheScope::kGlobal : CacheScope::kLayer;
      options.overflow = (rule & 8) != 0 ? Overflow::kKeepEvent : Overflow::kTrim;
      options.cold_start = (rule & 16) != 0 ? ColdStart::kHitUntilFull : ColdStart::kStrict;
      options.capacity *= (rule & 4) != 0 ? 3 : 2;
      const bool all_measured = (rule & 32) != 0;
      const AccessLog log = log_of(visits, kShape, all_measured ? 0 : 20, 50);
      const HitBounds bounds = hit_bounds(log, options);
      for (const std::string& policy : Registry<EvictionPolicy>::instance().names()) {
        CAPTURE(policy);
        CHECK(hits_of(policy, log, options) <= bounds.upper);
      }
      CHECK(bounds.lower <= bounds.upper);
      const bool exact = options.accounting == Accounting::kEvent || (rule & 8) == 0;
      if (equal && exact) CHECK(bounds.lower == bounds.upper);
      if (equal && exact && all_measured)
        CHECK(hits_of("min_bypass", log, options) == bounds.upper);
    }
  }

  TEST_CASE("a worked example of unequal sizes") {
    // Experts 0, 1, 2 of sizes 2, 1, 1 in a cache of 2, one a token: 0 1 2 1 2 0.
    CacheOptions options;
    options.shape = {6, 1, 3};
    options.expert_size = {2, 1, 1};
    options.capacity = 2;
    std::vector<RecordedVisit> visits;
    for (const int expert : {0, 1, 2, 1, 2, 0}) {
      visits.push_back(
          {static_cast<std::uint32_t>(visits.size()), LayerId{}, expert_ids({expert}), false});
    }
    const HitBounds bounds = hit_bounds(log_of(visits, options.shape, 0, 99), options);
    // 1 and 2 are held for two events each, at a cost of 2 each; 0 would cost 2 x 5, more than is
    // left of 2 x 6.
    CHECK(bounds.lower == 2);
    CHECK(bounds.upper == 2);
  }

  TEST_CASE("a cache that keeps nothing has no hits to bound") {
    constexpr RoutingShape kShape{20, 2, 6};
    CacheOptions options;
    options.shape = kShape;
    options.expert_size.assign(12, 1);
    const HitBounds bounds =
        hit_bounds(log_of(random_visits(kShape, 3, 1, false), kShape, 0, 99), options);
    CHECK(bounds.lower == 0);
    CHECK(bounds.upper == 0);
  }
}

}  // namespace moesim::test
