#include "trace/locality.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "core/select.h"

namespace moesim {
namespace {

// Uses of each expert of a layer by the tokens [first, last).
std::vector<std::uint64_t> use_counts(const DecodeVisits& visits, std::size_t layer,
                                      std::size_t first, std::size_t last) {
  std::vector<std::uint64_t> counts(visits.shape().experts, 0);
  for (std::size_t token = first; token < last; ++token) {
    for (const std::uint16_t id : visits.visit(token, layer)) ++counts[id];
  }
  return counts;
}

double standard_deviation(const std::vector<std::uint64_t>& counts, double scale) {
  const auto n = static_cast<double>(counts.size());
  double mean = 0;
  for (const std::uint64_t count : counts) mean += static_cast<double>(count) * scale / n;
  double variance = 0;
  for (const std::uint64_t count : counts) {
    const double difference = static_cast<double>(count) * scale - mean;
    variance += difference * difference / n;
  }
  return std::sqrt(variance);
}

// sum_i (2i - n - 1) x_i / (n sum_i x_i) over ascending x, i = 1..n.
double gini(std::vector<std::uint64_t> counts) {
  std::sort(counts.begin(), counts.end());
  const auto n = static_cast<double>(counts.size());
  double weighted = 0;
  double total = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const auto count = static_cast<double>(counts[i]);
    weighted += (2.0 * static_cast<double>(i + 1) - n - 1.0) * count;
    total += count;
  }
  return total == 0 ? 0.0 : weighted / (n * total);
}

std::size_t common(VisitIds a, VisitIds b) {
  std::size_t count = 0;
  for (const std::uint16_t id : a) count += std::find(b.begin(), b.end(), id) != b.end() ? 1 : 0;
  return count;
}

// `histogram[d]`: how often the distance d occurred.
std::optional<std::size_t> percentile(const std::vector<std::uint64_t>& histogram,
                                      std::uint64_t total, std::uint64_t percent) {
  if (total == 0) return std::nullopt;
  const std::uint64_t rank = (total * percent + 99) / 100;
  std::uint64_t seen = 0;
  for (std::size_t distance = 0; distance < histogram.size(); ++distance) {
    seen += histogram[distance];
    if (seen >= rank) return distance;
  }
  return std::nullopt;
}

void add_distances(const std::vector<VisitIds>& stream, std::size_t experts,
                   std::vector<std::uint64_t>& histogram, ReuseDistances& result) {
  std::vector<std::size_t> last(experts, 0);  // 1 + the visit of the last use
  for (std::size_t i = 0; i < stream.size(); ++i) {
    result.accesses += stream[i].size();
    for (const std::uint16_t id : stream[i]) {
      if (last[id] == 0) {
        ++result.first_uses;
      } else {
        ++histogram[i + 1 - last[id]];
      }
      last[id] = i + 1;
    }
  }
}

}  // namespace

std::vector<Popularity> popularity(const DecodeVisits& visits) {
  std::vector<Popularity> result;
  for (std::size_t layer = 0; layer < visits.shape().layers; ++layer) {
    const auto counts = use_counts(visits, layer, 0, visits.shape().tokens);
    std::size_t visited = 0;
    for (std::size_t token = 0; token < visits.shape().tokens; ++token) {
      visited += visits.visit(token, layer).empty() ? 0 : 1;
    }
    Popularity skew;
    skew.frequency_sd =
        visited == 0 ? 0.0 : standard_deviation(counts, 1.0 / static_cast<double>(visited));
    skew.gini = gini(counts);
    skew.unused = static_cast<std::size_t>(std::count(counts.begin(), counts.end(), 0U));
    result.push_back(skew);
  }
  return result;
}

Overlap overlap(const DecodeVisits& visits, std::size_t lag) {
  double sum = 0;
  std::uint64_t pairs = 0;
  for (std::size_t sequence = 0; sequence < visits.sequences(); ++sequence) {
    for (std::size_t layer = 0; layer < visits.shape().layers; ++layer) {
      const auto stream = visits.stream(sequence, layer);
      for (std::size_t i = lag; i < stream.size(); ++i, ++pairs) {
        sum += static_cast<double>(common(stream[i], stream[i - lag])) /
               static_cast<double>(stream[i].size());
      }
    }
  }
  if (pairs == 0) return {lag, std::nullopt};
  return {lag, sum / static_cast<double>(pairs)};
}

ReuseDistances reuse_distances(const DecodeVisits& visits) {
  ReuseDistances result;
  std::vector<std::uint64_t> histogram(visits.shape().tokens + 1, 0);
  for (std::size_t sequence = 0; sequence < visits.sequences(); ++sequence) {
    for (std::size_t layer = 0; layer < visits.shape().layers; ++layer) {
      add_distances(visits.stream(sequence, layer), visits.shape().experts, histogram, result);
    }
  }
  const std::uint64_t reuses = result.accesses - result.first_uses;
  result.p50 = percentile(histogram, reuses, 50);
  result.p90 = percentile(histogram, reuses, 90);
  result.p99 = percentile(histogram, reuses, 99);
  result.max = percentile(histogram, reuses, 100);
  return result;
}

HotList hot_list(const DecodeVisits& visits, std::size_t capacity) {
  const std::size_t tokens = visits.shape().tokens;
  const std::size_t half = tokens / 2;
  std::vector<std::uint16_t> hot(std::min(capacity, visits.shape().experts));
  std::uint64_t accesses = 0;
  std::uint64_t covered = 0;
  for (std::size_t layer = 0; layer < visits.shape().layers; ++layer) {
    const auto first = use_counts(visits, layer, 0, half);
    const auto second = use_counts(visits, layer, half, tokens);
    select_top_k(std::span<const std::uint64_t>(first), std::span(hot));
    for (const std::uint64_t count : second) accesses += count;
    for (const std::uint16_t id : hot) covered += second[id];
  }
  if (accesses == 0) return {capacity, std::nullopt};
  return {capacity, static_cast<double>(covered) / static_cast<double>(accesses)};
}

Locality measure_locality(const DecodeVisits& visits) {
  Locality result;
  result.popularity = popularity(visits);
  for (const std::size_t lag : {1U, 2U, 4U, 8U, 16U, 32U, 64U}) {
    result.overlap.push_back(overlap(visits, lag));
  }
  result.reuse = reuse_distances(visits);
  for (const std::size_t factor : {1U, 2U, 4U}) {
    result.hot_lists.push_back(hot_list(visits, factor * visits.k()));
  }
  for (const std::size_t m : {4U, 16U, 64U}) {
    if (const auto routing = segment_routing(visits, m)) result.segment_routing.push_back(*routing);
  }
  for (const std::size_t rho : {1U, 2U}) {
    result.segment_caches.push_back(segment_cache(visits, 16, rho * visits.k()));
  }
  return result;
}

namespace {

template <class T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

Json hit_rate(std::uint64_t hits, std::uint64_t accesses) {
  if (accesses == 0) return nullptr;
  return static_cast<double>(hits) / static_cast<double>(accesses);
}

Json caches_json(const std::vector<SegmentCache>& caches) {
  Json rows = Json::array();
  for (const SegmentCache& cache : caches) {
    rows.push_back(
        {{"m", cache.m},
         {"capacity_experts", cache.capacity},
         {"accesses", cache.accesses},
         {"hits_strict", cache.hits_strict},
         {"hits_cold_counts_as_hit", cache.hits_cold_counts_as_hit},
         {"hit_rate_strict", hit_rate(cache.hits_strict, cache.accesses)},
         {"hit_rate_cold_counts_as_hit", hit_rate(cache.hits_cold_counts_as_hit, cache.accesses)}});
  }
  return rows;
}

}  // namespace

Json to_json(const Locality& locality) {
  Json result = Json::object();
  Json layers = Json::array();
  for (const Popularity& layer : locality.popularity) {
    layers.push_back(
        {{"frequency_sd", layer.frequency_sd}, {"gini", layer.gini}, {"unused", layer.unused}});
  }
  result["popularity_by_layer"] = layers;
  Json lags = Json::array();
  for (const Overlap& row : locality.overlap) {
    lags.push_back({{"lag_tokens", row.lag}, {"share", or_null(row.share)}});
  }
  result["overlap"] = lags;
  result["reuse_distance_tokens"] = {
      {"accesses", locality.reuse.accesses}, {"first_uses", locality.reuse.first_uses},
      {"p50", or_null(locality.reuse.p50)},  {"p90", or_null(locality.reuse.p90)},
      {"p99", or_null(locality.reuse.p99)},  {"max", or_null(locality.reuse.max)}};
  Json hot = Json::array();
  for (const HotList& row : locality.hot_lists) {
    hot.push_back({{"capacity_experts", row.capacity}, {"coverage", or_null(row.coverage)}});
  }
  result["hot_list"] = hot;
  Json srp = Json::array();
  for (const SegmentRouting& row : locality.segment_routing) {
    srp.push_back({{"m", row.m}, {"srp", row.srp}, {"alpha", row.alpha}, {"rho", row.rho}});
  }
  result["srp"] = srp;
  result["sch"] = caches_json(locality.segment_caches);
  return result;
}

}  // namespace moesim
