#include "cache/cache_accounting.h"

#include <utility>

#include "core/errors.h"

namespace moesim {

CacheCounts CacheCounts::operator-(const CacheCounts& earlier) const {
  CacheCounts result = *this;
  result.accesses -= earlier.accesses;
  result.hits -= earlier.hits;
  result.misses -= earlier.misses;
  result.late -= earlier.late;
  result.cold_misses -= earlier.cold_misses;
  result.evictions -= earlier.evictions;
  result.loads -= earlier.loads;
  result.demand_bytes -= earlier.demand_bytes;
  result.lifetime_tokens -= earlier.lifetime_tokens;
  return result;
}

CacheCounts& CacheCounts::operator+=(const CacheCounts& more) {
  accesses += more.accesses;
  hits += more.hits;
  misses += more.misses;
  late += more.late;
  cold_misses += more.cold_misses;
  evictions += more.evictions;
  loads += more.loads;
  demand_bytes += more.demand_bytes;
  lifetime_tokens += more.lifetime_tokens;
  return *this;
}

CacheAccounting::CacheAccounting(RoutingShape shape, std::vector<std::uint64_t> expert_bytes)
    : shape_(shape),
      expert_bytes_(std::move(expert_bytes)),
      loaded_at_(shape.layers * shape.experts, 0),
      loaded_by_(shape.layers * shape.experts, 0) {
  if (expert_bytes_.size() != loaded_at_.size()) {
    throw InvariantError("expert sizes do not fit the shape of the trace");
  }
}

void CacheAccounting::count(std::uint32_t token, LayerId layer, const EventOutcome& outcome) {
  const std::size_t base = index(layer) * shape_.experts;
  std::size_t left = 0;
  CacheCounts sum;
  const std::uint32_t at_once = ++visits_ * (outcome.one_by_one ? 0U : 1U);
  for (const Access& access : outcome.accesses) {
    if (access.evicted_before != left) {
      // In the order in which things happened: an expert may leave and come back in one event.
      count_evictions(token, outcome.evicted.subspan(left, access.evicted_before - left));
      left = access.evicted_before;
    }
    // Selections instead of branches, because hits and misses follow no pattern.
    const std::size_t key = base + index(access.expert);
    const bool hit = access.kind == AccessKind::kHit;
    const bool demand = access.kind == AccessKind::kMiss;  // a late one was loaded before
    sum.hits += hit ? 1 : 0;
    sum.loads += demand ? 1 : 0;
    sum.cold_misses += access.cold && !hit ? 1 : 0;
    sum.demand_bytes += demand ? expert_bytes_[key] : 0;
    loaded_at_[key] = demand ? token : loaded_at_[key];
    loaded_by_[key] = demand ? at_once : loaded_by_[key];
  }
  const std::size_t accesses = outcome.accesses.size();
  counts_.accesses += accesses;
  counts_.hits += sum.hits;
  counts_.misses += accesses - sum.hits;
  counts_.late += accesses - sum.hits - sum.loads;
  counts_.cold_misses += sum.cold_misses;
  counts_.loads += outcome.streamed ? 0 : sum.loads;
  counts_.demand_bytes += sum.demand_bytes;
  count_evictions(token, outcome.evicted.subspan(left));
}

void CacheAccounting::recount(std::span<const Access> parts, std::span<const Access> experts) {
  const auto add = [this](std::span<const Access> accesses, std::uint64_t one) {
    for (const Access& access : accesses) {
      const bool hit = access.kind == AccessKind::kHit;
      counts_.accesses += one;
      (hit ? counts_.hits : counts_.misses) += one;
      if (access.cold && !hit) counts_.cold_misses += one;
    }
  };
  add(experts, 1);
  add(parts, std::uint64_t{0} - 1);  // wraps around, as the sum does
}

void CacheAccounting::count_speculative(std::uint32_t token, ExpertKey key,
                                        std::span<const ExpertKey> evicted) {
  ++visits_;  // what it evicts was loaded before it
  count_evictions(token, evicted);
  ++counts_.loads;
  loaded_at_[index(key)] = token;
  loaded_by_[index(key)] = 0;
}

void CacheAccounting::count_evictions(std::uint32_t token, std::span<const ExpertKey> evicted) {
  for (const ExpertKey key : evicted) {
    const bool passed_through = loaded_by_[index(key)] == visits_;
    counts_.evictions += passed_through ? 0 : 1;
    counts_.loads -= passed_through ? 1 : 0;
    counts_.lifetime_tokens += passed_through ? 0 : token - loaded_at_[index(key)];
  }
}

}  // namespace moesim
