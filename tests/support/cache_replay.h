// Recorded visits, and replaying them through a cache: what the tests of caches and policies share.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cache/cache_accounting.h"
#include "cache/expert_cache.h"
#include "cache/future_accesses.h"
#include "config/json_file.h"
#include "config/section.h"

namespace moesim::test {

// One layer visit, or the union pass of a prefill.
struct RecordedVisit {
  std::uint32_t token = 0;
  LayerId layer{};
  std::vector<ExpertId> experts;  // best first; for a union in touch order
  bool is_union = false;
};

LayerId layer_id(std::size_t layer);
ExpertId expert_id(std::size_t expert);
std::vector<ExpertId> expert_ids(const std::vector<int>& experts);
// The experts of keys of one layer, as plain numbers.
std::vector<int> numbers(std::span<const ExpertKey> keys, std::size_t experts);

// Makes the eviction policy that `policy` names, with its parameters.
std::unique_ptr<EvictionPolicy> make_eviction(const Json& policy, const EvictionContext& context);

// A cache whose experts all take 1, unless `options` has sizes; fills in what `options` leaves out.
ExpertCache make_cache(CacheOptions options, const Json& policy,
                       const FutureAccesses* future = nullptr);

// Tokens that tend to use again what the token before used, 1 to `most_per_visit` experts a visit;
// where `unions`, one prefill pass per layer comes first.
std::vector<RecordedVisit> random_visits(const RoutingShape& shape, std::size_t most_per_visit,
                                         std::uint64_t seed, bool unions);

FutureAccesses future_of(const std::vector<RecordedVisit>& visits, const RoutingShape& shape);

EventOutcome replay_visit(ExpertCache& cache, const RecordedVisit& visit);
// All visits; bytes are the sizes that the cache counts in.
CacheCounts replay(ExpertCache& cache, const std::vector<RecordedVisit>& visits);
// Makes the cache, with the future of these very visits, and replays them.
CacheCounts replay(const CacheOptions& options, const Json& policy,
                   const std::vector<RecordedVisit>& visits);

// Residents of a layer, ascending.
std::vector<int> residents(const ExpertCache& cache, LayerId layer);
// Residents of a layer by the policy's score: the one that leaves first comes first.
std::vector<int> residents_by_score(const ExpertCache& cache, LayerId layer);

}  // namespace moesim::test
