// Counts what a cache did. Integers only; metrics divide them. Knows no clock and no engine.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cache/expert_cache.h"
#include "core/ids.h"

namespace moesim {

// Plain counters, so that a region of interest is a difference of two of them.
struct CacheCounts {
  std::uint64_t accesses = 0;
  std::uint64_t hits = 0;
  std::uint64_t misses = 0;       // late ones included
  std::uint64_t late = 0;         // demanded while a speculative read was under way
  std::uint64_t cold_misses = 0;  // first access ever
  // Experts that left and that entered the resident set. One that an at-once visit both brings in
  // and drops, because more experts run than fit or because it is bypassed, counts in neither.
  std::uint64_t evictions = 0;
  std::uint64_t loads = 0;
  std::uint64_t demand_bytes = 0;     // sizes of misses, late ones excluded
  std::uint64_t lifetime_tokens = 0;  // summed over evictions: token evicted - token loaded

  CacheCounts operator-(const CacheCounts& earlier) const;
  CacheCounts& operator+=(const CacheCounts& more);
};

class CacheAccounting {
 public:
  // `expert_bytes`: [layers * experts]; throws InvariantError where it does not fit the shape.
  CacheAccounting(RoutingShape shape, std::vector<std::uint64_t> expert_bytes);

  // `token`: the number that lifetimes are measured in. What ExpertCache::reset() drops is no
  // eviction and has no lifetime.
  void count(std::uint32_t token, LayerId layer, const EventOutcome& outcome);
  // The accesses counted last were to parts of experts: turns them into those of the experts.
  // Bytes, loads and evictions stay those of the parts. REQUIRES: no late access among them.
  void recount(std::span<const Access> parts, std::span<const Access> experts);
  // A speculative read began: a load without an access.
  void count_speculative(std::uint32_t token, ExpertKey key, std::span<const ExpertKey> evicted);

  [[nodiscard]] const CacheCounts& counts() const { return counts_; }
  [[nodiscard]] std::uint64_t expert_bytes(ExpertKey key) const {
    return expert_bytes_[index(key)];
  }

 private:
  void count_evictions(std::uint32_t token, std::span<const ExpertKey> evicted);

  RoutingShape shape_;
  std::vector<std::uint64_t> expert_bytes_;
  std::vector<std::uint32_t> loaded_at_;  // [layers * experts], token of the last load
  // [layers * experts]: the at-once visit that loaded it last, 0 where another kind did.
  std::vector<std::uint32_t> loaded_by_;
  std::uint32_t visits_ = 0;  // counted from 1
  CacheCounts counts_;
};

}  // namespace moesim
