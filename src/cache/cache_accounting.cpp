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
      loaded_at_(shape.layers * shape.experts, 0) {
  if (expert_bytes_.size() != loaded_at_.size()) {
    throw InvariantError("expert sizes do not fit the shape of the trace");
  }
}

void CacheAccounting::count(std::uint32_t token, LayerId layer, const EventOutcome& outcome) {
  std::size_t left = 0;
  counts_.accesses += outcome.accesses.size();
  for (const Access& access : outcome.accesses) {
    // In the order in which things happened: an expert may leave and come back in one event.
    count_evictions(token, outcome.evicted.subspan(left, access.evicted_before - left));
    left = access.evicted_before;
    count_access(token, expert_key(layer, access.expert, shape_.experts), access);
    if (access.kind == AccessKind::kMiss && !outcome.streamed) ++counts_.loads;
  }
  count_evictions(token, outcome.evicted.subspan(left));
}

void CacheAccounting::count_access(std::uint32_t token, ExpertKey key, const Access& access) {
  if (access.kind == AccessKind::kHit) {
    ++counts_.hits;
    return;
  }
  ++counts_.misses;
  if (access.cold) ++counts_.cold_misses;
  if (access.kind == AccessKind::kLate) {  // its load was counted when the read began
    ++counts_.late;
    return;
  }
  counts_.demand_bytes += expert_bytes_[index(key)];
  loaded_at_[index(key)] = token;
}

void CacheAccounting::count_speculative(std::uint32_t token, ExpertKey key,
                                        std::span<const ExpertKey> evicted) {
  count_evictions(token, evicted);
  ++counts_.loads;
  loaded_at_[index(key)] = token;
}

void CacheAccounting::count_evictions(std::uint32_t token, std::span<const ExpertKey> evicted) {
  counts_.evictions += evicted.size();
  for (const ExpertKey key : evicted) counts_.lifetime_tokens += token - loaded_at_[index(key)];
}

}  // namespace moesim
