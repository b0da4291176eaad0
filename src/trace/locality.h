// Locality diagnostics of a trace: how skewed, how persistent and how cacheable its routing is
// before any policy or device comes in. All of them look at decode visits (decode_visits.h) and
// never across the end of a sequence, unless said otherwise.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "config/json_file.h"
#include "trace/decode_visits.h"
#include "trace/local_consistency.h"

namespace moesim {

// How unevenly the experts of one layer are used.
struct Popularity {
  double frequency_sd = 0;  // standard deviation over experts of (visits that use it / visits)
  double gini = 0;          // of the use counts: 0 all equal, towards 1 all on one expert
  std::size_t unused = 0;   // experts never used
};

// Mean share of a visit's experts that the visit `lag` earlier in the same layer used too.
struct Overlap {
  std::size_t lag = 0;
  std::optional<double> share;  // nullopt where no sequence is that long
};

// Visits of the layer since the expert's last use; 1 = the visit before. Percentiles by nearest
// rank, element ceil(p n).
struct ReuseDistances {
  std::uint64_t accesses = 0;
  std::uint64_t first_uses = 0;  // without a distance: first of the sequence
  std::optional<std::size_t> p50;
  std::optional<std::size_t> p90;
  std::optional<std::size_t> p99;
  std::optional<std::size_t> max;
};

// Share of the accesses of the second half of the tokens that the `capacity` experts per layer
// used most in the first half serve (ties: lowest id). Halves are of the whole trace.
struct HotList {
  std::size_t capacity = 0;
  std::optional<double> coverage;  // nullopt where the second half is empty
};

struct Locality {
  std::vector<Popularity> popularity;  // [layers]
  std::vector<Overlap> overlap;
  ReuseDistances reuse;
  std::vector<HotList> hot_lists;
  std::vector<SegmentRouting> segment_routing;  // windows that fit
  std::vector<SegmentCache> segment_caches;
};

std::vector<Popularity> popularity(const DecodeVisits& visits);
Overlap overlap(const DecodeVisits& visits, std::size_t lag);  // REQUIRES: lag > 0
ReuseDistances reuse_distances(const DecodeVisits& visits);
HotList hot_list(const DecodeVisits& visits, std::size_t capacity);

// All of them: lags 1 to 64, hot lists of k, 2k and 4k, SRP for m = 4, 16, 64, SCH for m = 16 and
// capacities k and 2k.
Locality measure_locality(const DecodeVisits& visits);

Json to_json(const Locality& locality);

}  // namespace moesim
