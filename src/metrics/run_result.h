// The result of a run as plain numbers; symbols, formulas and denominators: docs/metrics.md.
// What a run cannot know is absent, not zero.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "cache/cache_accounting.h"
#include "engine/run_observer.h"
#include "hardware/thermal.h"
#include "metrics/prediction_quality.h"
#include "metrics/routing_quality.h"

namespace moesim {

// Milliseconds per token; percentiles by linear interpolation between order statistics.
struct LatencyStatistics {
  double mean = 0;
  double p50 = 0;
  double p90 = 0;
  double p95 = 0;
  double p99 = 0;
  double max = 0;
};

// Sorts `values`. All zero where there are none.
LatencyStatistics latency_statistics(std::vector<double> values);

// One decoded token, for the per-token table.
struct TokenRow {
  std::uint32_t token = 0;  // row of the trace
  std::int32_t sequence = 0;
  std::uint32_t position = 0;
  Duration wall{};
  Durations<kTimeParts> parts{};
  std::uint64_t read_bytes = 0;
  std::uint64_t hits = 0;
  std::uint64_t misses = 0;
  std::uint64_t experts = 0;
  Duration lane{};  // time that reads which ended in its pass held lanes
};

// A tier behind the expert cache, during the measured tokens.
struct TierResult {
  std::string name;
  std::optional<double> capacity_mib;  // none: holds every expert
  TierCounts counts;
};

// Times are present where the run had a device.
struct TimeResult {
  LatencyStatistics tpot_ms;
  double ttft_ms = 0;
  double decode_tokens_per_s = 0;
  // Summed over the measured tokens: with batches a pass counts once for each of its tokens.
  Durations<kTimeParts> parts{};
  Durations<kPathParts> path{};
  Duration token_wall{};
  Duration wall{};            // of the measured passes, each once
  double prefill_ms = 0;      // all prefill passes
  double dependency_ms = 0;   // per token
  double flash_bound_ms = 0;  // per token
  double dram_bound_ms = 0;   // per token
  FlashCounts flash;          // of the measured tokens
  bool has_flash = true;
  std::vector<TierResult> tiers;  // nearest first; empty where the device has none
};

struct MemoryResult {
  double budget_mib = 0;
  double dense_mib = 0;
  double kv_peak_mib = 0;
  double expert_cache_mib = 0;
  double buffers_mib = 0;
  double refault_mib_per_token = 0;  // pages that came back; of the measured tokens
  double reclaim_mib_per_token = 0;  // pages that were stolen
  [[nodiscard]] double over_budget_mib() const;
};

struct EnergyResult {
  double j_per_token = 0;
  std::map<std::string, double> by_component;  // J per token
};

// Of the measured passes, each as it began.
struct ThermalResult {
  ThermalStart start = ThermalStart::kOff;
  struct Clock {
    double first = 0;
    double last = 0;
    double min = 0;
  };
  std::optional<Clock> clock;                 // GHz; none where the device file has no clock
  std::optional<double> heat_last;            // none where heat is not simulated
  std::optional<double> flash_derated_share;  // of their time; likewise
};

// Several sequences in lock-step. Of the measured passes.
struct BatchResult {
  std::size_t size = 1;  // as configured
  std::uint64_t passes = 0;
  std::uint64_t tokens = 0;
  std::uint64_t distinct_experts = 0;  // over all passes and layers
  std::optional<SchedulerOutcome> scheduler;
  std::uint64_t kv_copy_bytes = 0;  // for sequences that the scheduler moved
};

// Hit rates of caches that know the future.
struct OfflineHitRates {
  double min_bypass = 0;
  double upper_bound = 0;  // of any policy
  double lower_bound = 0;  // some choice of residents has as much
};

struct RunResult {
  std::size_t prefill_tokens = 0;
  std::size_t warmup_tokens = 0;
  std::size_t measured_tokens = 0;
  bool knows_bytes = true;
  CacheCounts cache;    // measured
  CacheCounts prefill;  // of the prefill passes
  PrefetchCounts prefetch;
  PredictionResult prediction;
  std::uint64_t token_cycle_bytes = 0;
  std::optional<std::uint64_t> cache_slots;  // experts that fit, where those of a cache are equal
  RoutingQualityResult routing;
  std::optional<double> belady_hit_rate;           // of the native selections
  std::optional<double> belady_executed_hit_rate;  // of the selections that ran
  std::optional<BatchResult> batch;
  // The same two for what else is known of offline caches.
  std::optional<OfflineHitRates> offline;
  std::optional<OfflineHitRates> offline_executed;
  // With weights.on_miss: experts that ran at low precision, selected experts that did not run.
  std::uint64_t low_precision = 0;
  std::uint64_t skipped_experts = 0;
  std::optional<TimeResult> time;
  std::optional<MemoryResult> memory;
  std::optional<EnergyResult> energy;
  std::vector<std::string> warnings;
  std::optional<ThermalResult> thermal;  // with a device
  std::vector<std::string> notes;        // what was not simulated for want of data
  std::vector<TokenRow> rows;            // measured tokens, where asked for
};

}  // namespace moesim
