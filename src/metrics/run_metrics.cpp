#include "metrics/run_metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace moesim {
namespace {

// Linear interpolation between order statistics. REQUIRES: sorted, not empty, 0 <= p <= 1.
double percentile(const std::vector<double>& sorted, double p) {
  const double place = p * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  const double share = place - static_cast<double>(below);
  return sorted[below] + share * (sorted[above] - sorted[below]);
}

template <std::size_t Parts>
void add(Durations<Parts>& sum, const Durations<Parts>& more) {
  for (std::size_t i = 0; i < Parts; ++i) sum[i] += more[i];
}

}  // namespace

LatencyStatistics latency_statistics(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  return {sum / static_cast<double>(values.size()),
          percentile(values, 0.50),
          percentile(values, 0.90),
          percentile(values, 0.95),
          percentile(values, 0.99),
          values.back()};
}

double MemoryResult::over_budget_mib() const {
  return std::max(0.0, dense_mib + kv_peak_mib + expert_cache_mib - budget_mib);
}

RunMetrics::RunMetrics(RunPlan& plan, bool keep_rows)
    : plan_(plan),
      keep_rows_(keep_rows),
      quality_(plan.trace().shape(), plan.k(), plan.session().routing().max_experts(),
               plan.schedule().measured_tokens * plan.trace().shape().layers, false) {
  walls_.reserve(plan.schedule().measured_tokens);
  if (keep_rows) rows_.reserve(plan.schedule().measured_tokens);
}

void RunMetrics::on_visit(const Pass& pass, LayerId layer, const VisitOutcome& visit,
                          TimePoint /*at*/) {
  if (pass.measured) quality_.add(layer, *visit.gate, *visit.executed);
}

void RunMetrics::on_pass(const PassRecord& record) {
  const Pass& pass = *record.pass;
  longest_context_ = std::max(longest_context_, pass.position + pass.count);
  track_first_tokens(record);
  if (pass.phase == Phase::kPrefill) {
    prefill_ += record.end - record.start;
    prefill_cache_ += record.cache;
  } else if (pass.measured) {
    add_measured(record);
  }
}

// Time to first token: from the start of a sequence to the end of its first decoded token.
void RunMetrics::track_first_tokens(const PassRecord& record) {
  const Pass& pass = *record.pass;
  if (pass.starts_sequence) {
    awaiting_first_ = true;
    since_start_ = {};
  }
  if (!awaiting_first_) return;
  since_start_ += record.end - record.start;
  if (pass.phase == Phase::kDecode) {
    first_token_sum_ += since_start_;
    ++first_tokens_;
    awaiting_first_ = false;
  }
}

void RunMetrics::add_measured(const PassRecord& record) {
  const Duration wall = record.end - record.start;
  walls_.push_back(wall);
  wall_ += wall;
  add(parts_, record.parts);
  add(path_, record.path);
  dependency_ += record.dependency;
  flash_bound_ += record.flash_bound;
  dram_bytes_ += record.dram_bytes;
  compute_bytes_ += record.compute_bytes;
  cache_ += record.cache;
  flash_ += record.flash;
  prefetch_ += record.prefetch;
  if (!keep_rows_) return;
  const Pass& pass = *record.pass;
  rows_.push_back({pass.first, pass.sequence, pass.position, wall, record.parts,
                   record.cache.demand_bytes + record.prefetch.issued_bytes, record.cache.hits,
                   record.cache.misses, record.experts});
}

RunResult RunMetrics::result() const {
  RunResult result;
  const TokenSchedule& schedule = plan_.schedule();
  result.prefill_tokens = schedule.prefill_tokens;
  result.warmup_tokens = schedule.warmup_tokens;
  result.measured_tokens = schedule.measured_tokens;
  result.knows_bytes = plan_.knows_bytes();
  result.cache = cache_;
  result.prefill = prefill_cache_;
  result.prefetch = prefetch_;
  result.token_cycle_bytes = plan_.token_cycle_bytes();
  result.routing = quality_.result();
  result.warnings = plan_.warnings();
  const bool reweighs = plan_.session().routing().weight_rule() == WeightRule::kAlteredLogits;
  if (result.routing.mean.agreement < 1 || reweighs) {
    result.warnings.push_back(
        "open loop: the recorded logits do not react to the experts that this routing swaps, drops "
        "or weighs otherwise, so later layers and tokens would differ in truth");
  }
  result.rows = rows_;
  if (plan_.config().device) {
    result.time = time_result();
    result.memory = memory_result();
    if (result.memory->over_budget_mib() > 0) {
      result.warnings.push_back(fmt::format(
          "memory exceeds the app budget by {:.0f} MiB: a real device would reclaim pages and be "
          "slower than simulated, or end the app",
          result.memory->over_budget_mib()));
    }
    if (plan_.config().device->energy) result.energy = energy_result();
  }
  return result;
}

TimeResult RunMetrics::time_result() const {
  TimeResult time;
  std::vector<double> walls_ms;
  walls_ms.reserve(walls_.size());
  for (const Duration wall : walls_) walls_ms.push_back(to_ms(wall));
  time.tpot_ms = latency_statistics(std::move(walls_ms));
  const auto tokens = static_cast<double>(walls_.size());
  time.tpot_ms.mean = to_ms(wall_) / tokens;
  time.decode_tokens_per_s = tokens / to_seconds(wall_);
  if (first_tokens_ > 0)
    time.ttft_ms = to_ms(first_token_sum_) / static_cast<double>(first_tokens_);
  time.parts = parts_;
  time.path = path_;
  time.wall = wall_;
  time.prefill_ms = to_ms(prefill_);
  time.dependency_ms = to_ms(dependency_) / tokens;
  time.flash_bound_ms = to_ms(flash_bound_) / tokens;
  const double total_bps = plan_.config().device->dram.total_gbps * 1e9;
  time.dram_bound_ms = static_cast<double>(dram_bytes_) / total_bps * 1e3 / tokens;
  time.flash = flash_;
  return time;
}

MemoryResult RunMetrics::memory_result() const {
  MemoryResult memory;
  memory.budget_mib = plan_.config().device->memory.app_budget_mib;
  memory.dense_mib = to_mib(plan_.costs()->dense_bytes());
  memory.kv_peak_mib = to_mib(plan_.costs()->kv_bytes(longest_context_));
  memory.expert_cache_mib = to_mib(plan_.cache_bytes());
  return memory;
}

// cpu_j_per_gb contains the DRAM energy of what the cores read; dram_j_per_gb is charged for flash
// DMA only, so that nothing is counted twice.
EnergyResult RunMetrics::energy_result() const {
  const Device& device = *plan_.config().device;
  const EnergySpec& spec = *device.energy;
  const auto tokens = static_cast<double>(walls_.size());
  const double flash_gb = static_cast<double>(flash_.bytes) * 1e-9;
  EnergyResult energy;
  energy.by_component["cpu"] =
      static_cast<double>(compute_bytes_) * 1e-9 * spec.cpu_j_per_gb / tokens;
  energy.by_component["dram_dma"] = flash_gb * device.dram.dma_factor * spec.dram_j_per_gb / tokens;
  energy.by_component["flash"] = flash_gb * spec.flash_j_per_gb / tokens;
  energy.by_component["platform"] = to_seconds(wall_) * spec.platform_w / tokens;
  for (const auto& [name, joules] : energy.by_component) energy.j_per_token += joules;
  return energy;
}

}  // namespace moesim
