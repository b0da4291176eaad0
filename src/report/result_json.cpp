#include <algorithm>

#include "core/version.h"
#include "report/run_report.h"

namespace moesim {
namespace {

template <class Number>
Json or_null(const std::optional<Number>& value) {
  return value ? Json(*value) : Json(nullptr);
}

double ratio(std::uint64_t part, std::uint64_t whole) {
  return whole == 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(whole);
}

Json statistics_json(const LatencyStatistics& s) {
  return {{"mean", s.mean}, {"p50", s.p50}, {"p90", s.p90},
          {"p95", s.p95},   {"p99", s.p99}, {"max", s.max}};
}

// Milliseconds per token of each part.
template <class Part, std::size_t Parts>
Json parts_json(const Durations<Parts>& parts, std::size_t tokens) {
  Json result = Json::object();
  for (std::size_t i = 0; i < Parts; ++i) {
    result[to_string(static_cast<Part>(i))] = to_ms(parts[i]) / static_cast<double>(tokens);
  }
  return result;
}

Json cache_json(const RunResult& result) {
  const CacheCounts& cache = result.cache;
  const std::uint64_t bytes = cache.demand_bytes + result.prefetch.issued_bytes;
  const auto tokens = static_cast<double>(result.measured_tokens);
  Json json = {{"accesses", cache.accesses},   {"hits", cache.hits},
               {"misses", cache.misses},       {"hit_rate", ratio(cache.hits, cache.accesses)},
               {"evictions", cache.evictions}, {"cold_misses", cache.cold_misses}};
  json["bytes_read"] = result.knows_bytes ? Json(bytes) : Json(nullptr);
  json["mib_per_token"] = result.knows_bytes ? Json(to_mib(bytes) / tokens) : Json(nullptr);
  json["mean_lifetime_tokens"] =
      cache.evictions == 0 ? Json(nullptr) : Json(ratio(cache.lifetime_tokens, cache.evictions));
  json["token_cycle_mib"] =
      result.knows_bytes ? Json(to_mib(result.token_cycle_bytes)) : Json(nullptr);
  json["loads"] = cache.loads;
  return json;
}

Json flash_json(const TimeResult& time) {
  const double wall = to_seconds(time.wall);
  return {{"reads", time.flash.reads},
          {"bytes", time.flash.bytes},
          {"busy_fraction", to_seconds(time.flash.service) / wall},
          {"mean_in_flight", to_seconds(time.flash.lane) / wall}};
}

// recall: of the accesses that were not resident anyway, the share that a prediction had covered;
// precision: of the reads issued, the share that was demanded, at most 1: reads issued during the
// warm-up may be demanded after it.
Json prefetch_json(const RunResult& result) {
  const PrefetchCounts& p = result.prefetch;
  return {{"issued", p.issued},
          {"useful", p.useful},
          {"late", p.late},
          {"wasted_bytes", p.wasted_bytes},
          {"recall", ratio(p.useful + p.late, p.useful + result.cache.misses)},
          {"precision", std::min(1.0, ratio(p.useful + p.late, p.issued))}};
}

Json proxies_json(const RoutingProxies& proxies) {
  return {{"experts_per_token_layer", proxies.experts},
          {"agreement", proxies.agreement},
          {"retained_mass", or_null(proxies.retained_mass)},
          {"dropped_mass", or_null(proxies.dropped_mass)},
          {"skipped_mass", or_null(proxies.skipped_mass)},
          {"total_variation", or_null(proxies.total_variation)},
          {"jensen_shannon", or_null(proxies.jensen_shannon)},
          {"gate_l2", or_null(proxies.gate_l2)},
          {"logit_regret", or_null(proxies.logit_regret)},
          {"load_violation", proxies.load_violation}};
}

Json routing_json(const RoutingQualityResult& routing) {
  Json json = proxies_json(routing.mean);
  json["added"] = routing.added;
  json["removed"] = routing.removed;
  json["p95"] = {{"dropped_mass", or_null(routing.p95_dropped_mass)},
                 {"jensen_shannon", or_null(routing.p95_jensen_shannon)},
                 {"gate_l2", or_null(routing.p95_gate_l2)}};
  json["displaced_by_rank"] = routing.displaced_by_rank;
  json["promoted_by_rank"] = routing.promoted_by_rank;
  json["experts_histogram"] = routing.experts_histogram;
  json["by_layer"] = Json::array();
  for (const RoutingProxies& layer : routing.by_layer)
    json["by_layer"].push_back(proxies_json(layer));
  return json;
}

Json bounds_json(const RunResult& result) {
  Json json = {{"belady_hit_rate", or_null(result.belady_hit_rate)},
               {"belady_executed_hit_rate", or_null(result.belady_executed_hit_rate)}};
  json["dependency_ms"] = result.time ? Json(result.time->dependency_ms) : Json(nullptr);
  json["flash_ms"] = result.time ? Json(result.time->flash_bound_ms) : Json(nullptr);
  json["dram_ms"] = result.time ? Json(result.time->dram_bound_ms) : Json(nullptr);
  return json;
}

Json memory_json(const MemoryResult& memory) {
  return {{"budget_mib", memory.budget_mib},
          {"dense_mib", memory.dense_mib},
          {"kv_peak_mib", memory.kv_peak_mib},
          {"expert_cache_mib", memory.expert_cache_mib},
          {"over_budget_mib", memory.over_budget_mib()}};
}

Json throughput_json(const TimeResult& time) {
  return {{"decode_tokens_per_s", time.decode_tokens_per_s},
          {"ttft_ms", time.ttft_ms},
          {"tpot_ms", statistics_json(time.tpot_ms)}};
}

}  // namespace

Json result_json(const RunReport& report) {
  const RunResult& result = report.result;
  Json json;
  json["schema"] = "moesim.result/1";
  json["program"] = {{"version", program_version()}, {"commit", program_commit()}};
  json["config"] = report.facts.config;
  json["inputs"] = Json::array();
  for (const RunReport::Input& input : report.inputs) {
    json["inputs"].push_back({{"path", input.path}, {"sha256", input.sha256}});
  }
  json["tokens"] = {{"prefill", result.prefill_tokens},
                    {"warmup", result.warmup_tokens},
                    {"measured", result.measured_tokens}};
  if (result.time) {
    const TimeResult& time = *result.time;
    json["throughput"] = throughput_json(time);
    json["time_ms_per_token"] = parts_json<TimePart>(time.parts, result.measured_tokens);
    json["critical_path_ms_per_token"] = parts_json<PathPart>(time.path, result.measured_tokens);
  } else {
    json["throughput"] = nullptr;
    json["time_ms_per_token"] = nullptr;
    json["critical_path_ms_per_token"] = nullptr;
  }
  json["cache"] = cache_json(result);
  json["prefill"] = {
      {"tokens", result.prefill_tokens},
      {"accesses", result.prefill.accesses},
      {"hits", result.prefill.hits},
      {"misses", result.prefill.misses},
      {"bytes_read", result.knows_bytes ? Json(result.prefill.demand_bytes) : Json(nullptr)},
      {"ms", result.time ? Json(result.time->prefill_ms) : Json(nullptr)}};
  json["flash"] = result.time ? flash_json(*result.time) : Json(nullptr);
  json["prefetch"] = prefetch_json(result);
  json["routing"] = routing_json(result.routing);
  json["bounds"] = bounds_json(result);
  json["memory"] = result.memory ? memory_json(*result.memory) : Json(nullptr);
  json["energy"] = nullptr;
  if (result.energy) {
    json["energy"] = {{"j_per_token", result.energy->j_per_token},
                      {"by_component", result.energy->by_component}};
  }
  json["warnings"] = result.warnings;
  return json;
}

}  // namespace moesim
