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

// Milliseconds per token of each of the first `count` parts.
template <class Part, std::size_t Parts>
Json parts_json(const Durations<Parts>& parts, std::size_t tokens, std::size_t count = Parts) {
  Json result = Json::object();
  for (std::size_t i = 0; i < count; ++i) {
    result[to_string(static_cast<Part>(i))] = to_ms(parts[i]) / static_cast<double>(tokens);
  }
  return result;
}

// Little's law: what the mean lifetime is in the steady state. The cache holds `cache_slots`
// experts for as many decode passes, and each load begins one stay.
Json little_lifetime(const RunResult& result) {
  if (result.cache.loads == 0 || result.cache_slots.value_or(0) == 0) return nullptr;
  const std::uint64_t passes = result.batch ? result.batch->passes : result.measured_tokens;
  return static_cast<double>(*result.cache_slots * passes) /
         static_cast<double>(result.cache.loads);
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
  json["little_lifetime_tokens"] = little_lifetime(result);
  json["token_cycle_mib"] =
      result.knows_bytes ? Json(to_mib(result.token_cycle_bytes)) : Json(nullptr);
  json["loads"] = cache.loads;
  return json;
}

Json flash_json(const TimeResult& time, std::size_t measured_tokens) {
  const auto tokens = static_cast<double>(measured_tokens);
  const double wall = to_seconds(time.wall);
  return {{"reads", time.flash.reads},
          {"bytes", time.flash.bytes},
          {"padding_bytes", time.flash.padding},
          {"busy_fraction", to_seconds(time.flash.service) / wall},
          {"mean_in_flight", to_seconds(time.flash.lane + time.flash.copy) / wall},
          {"lane_ms_per_token", to_ms(time.flash.lane) / tokens},
          {"copy_ms_per_token", to_ms(time.flash.copy) / tokens}};
}

// How many parts of the critical path there can be: links, the last, come with tiers.
std::size_t path_parts(const TimeResult& time) {
  static_assert(static_cast<std::size_t>(PathPart::kLink) + 1 == kPathParts);
  return time.tiers.empty() ? kPathParts - 1 : kPathParts;
}

Json tiers_json(const TimeResult& time) {
  Json json = Json::array();
  for (const TierResult& tier : time.tiers) {
    const CacheCounts& cache = tier.counts.cache;
    const FlashCounts& link = tier.counts.link;
    json.push_back({{"name", tier.name},
                    {"capacity_mib", or_null(tier.capacity_mib)},
                    {"accesses", cache.accesses},
                    {"hits", cache.hits},
                    {"misses", cache.misses},
                    {"hit_rate", ratio(cache.hits, cache.accesses)},
                    {"evictions", cache.evictions},
                    {"bytes_in", cache.demand_bytes},
                    {"bytes_out", link.bytes},
                    {"transfers", link.reads},
                    {"busy_fraction", to_seconds(link.service) / to_seconds(time.wall)}});
  }
  return json;
}

// recall and precision judge the predictions, read_recall and read_precision the reads: of the
// accesses that were not resident anyway, the share that a read ahead covered, and of the reads
// issued, the share that was demanded, at most 1: reads issued during the warm-up may be demanded
// after it.
Json prefetch_json(const RunResult& result) {
  const PrefetchCounts& p = result.prefetch;
  const PredictionResult& prediction = result.prediction;
  const auto bytes = [&](std::uint64_t count) {
    return result.knows_bytes ? Json(count) : Json(nullptr);
  };
  Json json = {{"issued", p.issued},
               {"useful", p.useful},
               {"late", p.late},
               {"wasted_bytes", p.wasted_bytes},
               {"recall", prediction.recall},
               {"precision", prediction.precision}};
  json["predicted_visits"] = ratio(prediction.predicted, prediction.visits);
  json["named"] = prediction.named;
  json["right"] = prediction.right;
  json["issued_bytes"] = bytes(p.issued_bytes);
  json["useful_bytes"] = bytes(p.useful_bytes);
  json["late_bytes"] = bytes(p.late_bytes);
  json["read_recall"] = ratio(p.useful + p.late, p.useful + result.cache.misses);
  json["read_precision"] = std::min(1.0, ratio(p.useful + p.late, p.issued));
  json["recall_by_layer"] = prediction.named > 0 ? Json(prediction.by_layer) : Json::array();
  return json;
}

Json proxies_json(const RoutingProxies& proxies) {
  return {{"experts_per_token_layer", proxies.experts},
          {"agreement", proxies.agreement},
          {"swap_rate", proxies.swap_rate},
          {"retained_mass", or_null(proxies.retained_mass)},
          {"retained_mass_absolute", or_null(proxies.retained_mass_absolute)},
          {"dropped_mass", or_null(proxies.dropped_mass)},
          {"skipped_mass", or_null(proxies.skipped_mass)},
          {"total_variation", or_null(proxies.total_variation)},
          {"jensen_shannon", or_null(proxies.jensen_shannon)},
          {"gate_l2", or_null(proxies.gate_l2)},
          {"logit_regret", or_null(proxies.logit_regret)},
          {"logit_range", or_null(proxies.logit_range)},
          {"logit_regret_over_mean_range", or_null(proxies.logit_regret_over_mean_range)},
          {"kl_bias", or_null(proxies.bias_divergence)}};
}

// Routed experts at full precision; null where nothing says how large they are.
Json weights_json(const RunReport& report) {
  const RunFacts& facts = report.facts;
  if (!report.result.knows_bytes) return nullptr;
  Json json;
  json["expert_bits"] = facts.expert_bits > 0 ? Json(facts.expert_bits) : Json(nullptr);
  json["expert_bytes"] = {{"min", facts.smallest_expert},
                          {"mean", facts.expert_mib * static_cast<double>(kMiB)},
                          {"max", facts.largest_expert}};
  return json;
}

Json routing_json(const RunResult& result) {
  const RoutingQualityResult& routing = result.routing;
  Json json = proxies_json(routing.mean);
  json["load_violation"] = routing.load_violation;
  const std::uint64_t ran = result.cache.accesses;
  json["low_precision_share"] = ratio(result.low_precision, ran);
  json["skipped_experts"] = result.skipped_experts;
  json["skipped_share"] = ratio(result.skipped_experts, ran + result.skipped_experts);
  json["added"] = routing.added;
  json["removed"] = routing.removed;
  json["p95"] = proxies_json(routing.p95);
  json["displaced_by_rank"] = routing.displaced_by_rank;
  json["promoted_by_rank"] = routing.promoted_by_rank;
  json["experts_histogram"] = routing.experts_histogram;
  json["by_layer"] = Json::array();
  for (std::size_t layer = 0; layer < routing.by_layer.size(); ++layer) {
    json["by_layer"].push_back(proxies_json(routing.by_layer[layer]));
    json["by_layer"].back()["load_violation"] = routing.load_violation_by_layer[layer];
    json["by_layer"].back()["p95"] = proxies_json(routing.p95_by_layer[layer]);
  }
  return json;
}

Json bounds_json(const RunResult& result) {
  Json json = {{"belady_hit_rate", or_null(result.belady_hit_rate)},
               {"belady_executed_hit_rate", or_null(result.belady_executed_hit_rate)}};
  const auto add = [&json](const std::string& of, const std::optional<OfflineHitRates>& rates) {
    json["min_bypass_" + of] = rates ? Json(rates->min_bypass) : Json(nullptr);
    json[of + "_upper_bound"] = rates ? Json(rates->upper_bound) : Json(nullptr);
    json[of + "_lower_bound"] = rates ? Json(rates->lower_bound) : Json(nullptr);
  };
  add("hit_rate", result.offline);
  add("executed_hit_rate", result.offline_executed);
  json["dependency_ms"] = result.time ? Json(result.time->dependency_ms) : Json(nullptr);
  const bool has_flash = result.time && result.time->has_flash;
  json["flash_ms"] = has_flash ? Json(result.time->flash_bound_ms) : Json(nullptr);
  json["dram_ms"] = result.time ? Json(result.time->dram_bound_ms) : Json(nullptr);
  return json;
}

Json memory_json(const MemoryResult& memory) {
  return {{"budget_mib", memory.budget_mib},
          {"dense_mib", memory.dense_mib},
          {"kv_peak_mib", memory.kv_peak_mib},
          {"expert_cache_mib", memory.expert_cache_mib},
          {"buffers_mib", memory.buffers_mib},
          {"refault_mib_per_token", memory.refault_mib_per_token},
          {"reclaim_mib_per_token", memory.reclaim_mib_per_token},
          {"over_budget_mib", memory.over_budget_mib()}};
}

Json thermal_json(const ThermalResult& thermal) {
  Json json = {{"start", to_string(thermal.start)},
               {"clock_ghz", nullptr},
               {"heat_last", or_null(thermal.heat_last)},
               {"flash_derated_share", or_null(thermal.flash_derated_share)}};
  if (thermal.clock) {
    json["clock_ghz"] = {{"first", thermal.clock->first},
                         {"last", thermal.clock->last},
                         {"min", thermal.clock->min}};
  }
  return json;
}

Json batch_json(const BatchResult& batch, bool knows_time) {
  const auto passes = static_cast<double>(batch.passes);
  Json json = {{"size", batch.size},
               {"passes", batch.passes},
               {"tokens_per_pass", static_cast<double>(batch.tokens) / passes},
               {"distinct_experts_per_pass", static_cast<double>(batch.distinct_experts) / passes},
               {"scheduler", nullptr}};
  if (!batch.scheduler) return json;
  const SchedulerOutcome& scheduler = *batch.scheduler;
  json["scheduler"] = {{"objective_before", scheduler.objective_before},
                       {"objective_after", scheduler.objective_after},
                       {"steps", scheduler.steps},
                       {"changed_steps", scheduler.changed_steps},
                       {"moved_sequences", scheduler.moved_sequences},
                       {"kv_copy_bytes", knows_time ? Json(batch.kv_copy_bytes) : Json(nullptr)}};
  return json;
}

Json throughput_json(const TimeResult& time) {
  return {{"decode_tokens_per_s", time.decode_tokens_per_s},
          {"ttft_ms", time.ttft_ms},
          {"tpot_ms", statistics_json(time.tpot_ms)}};
}

}  // namespace

Json program_json() { return {{"version", program_version()}, {"commit", program_commit()}}; }

Json inputs_json(const std::vector<RunReport::Input>& inputs) {
  Json json = Json::array();
  for (const RunReport::Input& input : inputs) {
    json.push_back({{"path", input.path}, {"sha256", input.sha256}});
  }
  return json;
}

Json result_json(const RunReport& report) {
  const RunResult& result = report.result;
  Json json;
  json["schema"] = "moesim.result/1";
  json["program"] = program_json();
  json["config"] = report.facts.config;
  json["inputs"] = inputs_json(report.inputs);
  json["tokens"] = {{"prefill", result.prefill_tokens},
                    {"warmup", result.warmup_tokens},
                    {"measured", result.measured_tokens}};
  if (result.batch) json["batch"] = batch_json(*result.batch, result.time.has_value());
  if (result.time) {
    const TimeResult& time = *result.time;
    json["throughput"] = throughput_json(time);
    json["time_ms_per_token"] = parts_json<TimePart>(time.parts, result.measured_tokens);
    json["critical_path_ms_per_token"] =
        parts_json<PathPart>(time.path, result.measured_tokens, path_parts(time));
  } else {
    json["throughput"] = nullptr;
    json["time_ms_per_token"] = nullptr;
    json["critical_path_ms_per_token"] = nullptr;
  }
  json["weights"] = weights_json(report);
  json["cache"] = cache_json(result);
  json["prefill"] = {
      {"tokens", result.prefill_tokens},
      {"accesses", result.prefill.accesses},
      {"hits", result.prefill.hits},
      {"misses", result.prefill.misses},
      {"bytes_read", result.knows_bytes ? Json(result.prefill.demand_bytes) : Json(nullptr)},
      {"ms", result.time ? Json(result.time->prefill_ms) : Json(nullptr)}};
  const bool has_flash = result.time && result.time->has_flash;
  json["flash"] = has_flash ? flash_json(*result.time, result.measured_tokens) : Json(nullptr);
  if (result.time && !result.time->tiers.empty()) json["tiers"] = tiers_json(*result.time);
  json["prefetch"] = prefetch_json(result);
  json["routing"] = routing_json(result);
  json["bounds"] = bounds_json(result);
  json["memory"] = result.memory ? memory_json(*result.memory) : Json(nullptr);
  json["energy"] = nullptr;
  if (result.energy) {
    json["energy"] = {{"j_per_token", result.energy->j_per_token},
                      {"by_component", result.energy->by_component}};
  }
  json["thermal"] = result.thermal ? thermal_json(*result.thermal) : Json(nullptr);
  json["notes"] = result.notes;
  json["warnings"] = result.warnings;
  return json;
}

}  // namespace moesim
