// Little's law for every eviction policy.
#include <string>

#include "support/cache_replay.h"
#include "support/testing.h"

namespace moesim::test {
namespace {

constexpr RoutingShape kShape{80, 3, 10};

struct Lifetimes {
  CacheCounts counts;
  std::uint64_t unfinished = 0;       // tokens since the load, of what is resident at the end
  std::uint64_t resident_tokens = 0;  // residents, summed over the boundaries between tokens
};

std::size_t residents_in_all(const ExpertCache& cache) {
  std::size_t sum = 0;
  for (std::size_t layer = 0; layer < kShape.layers; ++layer) {
    sum += residents(cache, layer_id(layer)).size();
  }
  return sum;
}

Lifetimes measure(ExpertCache& cache, const std::vector<RecordedVisit>& visits) {
  CacheAccounting accounting(kShape, cache.options().expert_size);
  std::vector<std::uint32_t> loaded_at(kShape.layers * kShape.experts, 0);
  Lifetimes sums;
  for (std::size_t i = 0; i < visits.size(); ++i) {
    const RecordedVisit& visit = visits[i];
    const EventOutcome outcome = replay_visit(cache, visit);
    accounting.count(visit.token, visit.layer, outcome);
    for (const Access& access : outcome.accesses) {
      const std::size_t key = index(expert_key(visit.layer, access.expert, kShape.experts));
      if (access.kind == AccessKind::kMiss) loaded_at[key] = visit.token;
    }
    const bool ends_token = i + 1 < visits.size() && visits[i + 1].token != visit.token;
    if (ends_token) sums.resident_tokens += residents_in_all(cache);
  }
  for (std::size_t key = 0; key < loaded_at.size(); ++key) {
    if (cache.residency(static_cast<ExpertKey>(key)) != Residency::kResident) continue;
    sums.unfinished += visits.back().token - loaded_at[key];
  }
  sums.counts = accounting.counts();
  return sums;
}

}  // namespace

TEST_SUITE("cache lifetimes") {
  TEST_CASE("Little's law: residents over time are lifetimes, those not yet ended included") {
    const auto visits = random_visits(kShape, 4, 51, true);
    const FutureAccesses future = future_of(visits, kShape);
    for (const std::string& policy : Registry<EvictionPolicy>::instance().names()) {
      for (int rule = 0; rule < 8; ++rule) {
        CAPTURE(policy);
        CAPTURE(rule);
        CacheOptions options;
        options.shape = kShape;
        options.capacity = 5;
        if ((rule & 1) != 0) options.scope = CacheScope::kGlobal;
        if ((rule & 1) != 0) options.capacity = 15;
        if ((rule & 2) != 0) options.accounting = Accounting::kAccess;
        if ((rule & 4) != 0) options.overflow = Overflow::kKeepEvent;
        ExpertCache cache = make_cache(options, {{"policy", policy}}, &future);
        const Lifetimes sums = measure(cache, visits);
        CHECK(sums.counts.lifetime_tokens + sums.unfinished == sums.resident_tokens);
        if (options.overflow == Overflow::kTrim) {
          // Capacity x tokens, but for what the first tokens have not filled yet.
          CHECK(sums.resident_tokens <= 15 * kShape.tokens);
          CHECK(sums.resident_tokens >= 14 * kShape.tokens);
        }
      }
    }
  }
}

}  // namespace moesim::test
