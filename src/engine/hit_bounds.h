// Bounds on the hits that any cache with these options can have on a run's accesses, whatever its
// eviction policy, where Belady's rule is no bound: experts of unequal size, and events judged at
// once. They hold for demand reads only, not for what is prefetched.
#pragma once

#include <cstdint>

#include "cache/expert_cache.h"
#include "engine/access_log.h"

namespace moesim {

// Hits of the measured events.
struct HitBounds {
  std::uint64_t lower = 0;  // some choice of residents has as many; 0 where none was worked out
  std::uint64_t upper = 0;  // no choice has more
};

// An expert that is used again hits if it is held in between, which takes its size for so many
// events: a packing of intervals. Per partition:
// - experts of equal size: the optimum, by keeping the nearest next uses (both bounds);
// - else the upper bound is the lesser of that optimum with every expert as small as the smallest,
//   and PFOO-L: intervals by size x length as long as the capacity x events last (Berger, Beckmann,
//   Harchol-Balter, "Practical bounds on optimal caching with variable object sizes", 2018);
// - the lower bound is PFOO-U: intervals in that order, each if it still fits everywhere. It is 0
//   with keep_event and accesses judged one by one.
// Only uses in measured events count, so that the bounds hold for them alone. O(n log n) in time
// and O(n) in memory for n accesses.
HitBounds hit_bounds(const AccessLog& log, const CacheOptions& options);

}  // namespace moesim
