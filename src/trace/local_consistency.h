// Local routing consistency (arXiv 2505.16056): how well a choice of experts that is fixed for a
// segment, or a small cache with a short look-ahead, could serve a trace.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "trace/decode_visits.h"

namespace moesim {

// Segment routing best performance of all layers and sequences pooled.
struct SegmentRouting {
  std::size_t m = 0;      // visits per window
  double srp = 0;         // the best F1
  std::size_t alpha = 0;  // uses in a window from which an expert is predicted active; least best
  double rho = 0;         // experts predicted active / experts active
};

// Every window of m visits of every sequence counts. Nullopt where no sequence is that long.
// REQUIRES: m > 0.
std::optional<SegmentRouting> segment_routing(const DecodeVisits& visits, std::size_t m);

// Hits of a cache that knows the next m - 1 visits, one cache per layer, summed over layers and
// sequences; each sequence starts empty.
struct SegmentCache {
  std::size_t m = 0;
  std::size_t capacity = 0;  // experts per layer
  std::uint64_t accesses = 0;
  std::uint64_t hits_strict = 0;              // a first access is a miss
  std::uint64_t hits_cold_counts_as_hit = 0;  // a first access is a hit until the cache is full
};

// REQUIRES: m > 0.
SegmentCache segment_cache(const DecodeVisits& visits, std::size_t m, std::size_t capacity);

}  // namespace moesim
