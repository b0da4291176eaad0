// Caches of several capacities that evict the least recently used expert, counted in one pass over
// the accesses of a run (Mattson, Gecsei, Slutz, Traiger, "Evaluation techniques for storage
// hierarchies", 1970). Each holds the top of one stack of all experts in the order of their last
// use; an access hits where its depth is within what the cache holds.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cache/expert_cache.h"
#include "engine/access_log.h"

namespace moesim {

// Whether LRU caches with these options hold the top of one stack whatever their capacity. Not so
// with experts of unequal size in one cache (a large one may leave where a smaller cache has a
// small one), with initial contents, with cold_start hit_until_full, and with keep_event where
// experts are judged one by one: those that are still to come are spared, whatever their depth.
bool lru_is_stack(const CacheOptions& options);

// [capacities], what replay_accesses() counts with each as CacheOptions::capacity.
// REQUIRES: lru_is_stack(options), no capacity of 0.
std::vector<ReplayCounts> lru_curve(const AccessLog& log, const CacheOptions& options,
                                    std::span<const std::uint64_t> capacities,
                                    std::span<const std::uint64_t> expert_bytes);

}  // namespace moesim
