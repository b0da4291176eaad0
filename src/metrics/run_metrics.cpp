#include "metrics/run_metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "metrics/batch_result.h"

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

std::optional<std::uint64_t> cache_slots(const CacheOptions& options) {
  const std::vector<std::uint64_t>& sizes = options.expert_size;
  const std::size_t experts =
      options.scope == CacheScope::kGlobal ? sizes.size() : options.shape.experts;
  std::uint64_t slots = 0;
  for (auto first = sizes.begin(); first != sizes.end();) {
    const auto end = first + static_cast<std::ptrdiff_t>(experts);
    if (std::any_of(first, end, [first](std::uint64_t size) { return size != *first; })) {
      return std::nullopt;
    }
    slots += std::min<std::uint64_t>(options.capacity / *first, experts);
    first = end;
  }
  return slots;
}

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
  return std::max(0.0, dense_mib + kv_peak_mib + buffers_mib + expert_cache_mib - budget_mib);
}

RunMetrics::RunMetrics(RunPlan& plan, bool keep_rows)
    : plan_(plan),
      keep_rows_(keep_rows),
      quality_(plan.trace().shape(), plan.k(), plan.session().routing().max_experts(),
               plan.schedule().measured_tokens * plan.session().routing().max_executions()),
      prediction_(plan.trace().shape()) {
  const TokenSchedule& schedule = plan.schedule();
  walls_.reserve(schedule.measured_tokens);
  tiers_.resize(plan.config().tiers.size());
  if (keep_rows) rows_.reserve(schedule.measured_tokens);
  pass_rows_.resize(schedule.tokens_in_pass);
  awaiting_first_.reserve(static_cast<std::size_t>(
      std::count_if(schedule.passes.begin(), schedule.passes.end(),
                    [](const Pass& pass) { return pass.starts_sequence; }) +
      static_cast<std::ptrdiff_t>(schedule.tokens_in_pass)));
}

void RunMetrics::on_visit(const Pass& pass, LayerId layer, const VisitOutcome& visit,
                          TimePoint /*at*/) {
  if (!pass.measured) return;
  if (visit.tokens.empty()) {
    quality_.add(layer, *visit.gate, *visit.executed);
    if (visit.bias_divergence) quality_.add_bias_divergence(layer, *visit.bias_divergence);
  }
  for (const RoutedToken& token : visit.tokens) {
    quality_.add(layer, *token.gate, *token.executed);
    if (token.bias_divergence) quality_.add_bias_divergence(layer, *token.bias_divergence);
    TokenRow& row = pass_rows_[token.place];
    row.read_bytes += token.demand_bytes;
    row.hits += token.hits;
    row.misses += token.misses;
    row.experts += token.executed->ids.size();
  }
  if (!visit.is_repeat) prediction_.add(layer, visit.accesses, visit.predicted);
  low_precision_ += visit.low_precision;
  skipped_experts_ += visit.skipped;
}

void RunMetrics::on_pass(const PassRecord& record) {
  const Pass& pass = *record.pass;
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
  if (pass.tokens.empty()) {
    if (pass.starts_sequence) begin_sequence(pass.sequence, record.start);
    if (pass.phase == Phase::kDecode) end_first_token(pass.sequence, record.end);
  }
  for (const PassToken& token : pass.tokens) {
    if (token.starts_sequence) begin_sequence(token.sequence, record.start);
    end_first_token(token.sequence, record.end);
  }
}

void RunMetrics::begin_sequence(std::int32_t sequence, TimePoint at) {
  awaiting_first_.push_back({sequence, at});
}

void RunMetrics::end_first_token(std::int32_t sequence, TimePoint at) {
  const auto begun =
      std::find_if(awaiting_first_.begin(), awaiting_first_.end(),
                   [&](const Begun& waiting) { return waiting.sequence == sequence; });
  if (begun == awaiting_first_.end()) return;
  first_token_sum_ += at - begun->at;
  ++first_tokens_;
  awaiting_first_.erase(begun);
}

void RunMetrics::add_measured(const PassRecord& record) {
  for (std::size_t l = 0; l < plan_.trace().shape().layers; ++l) {
    const auto layer = static_cast<LayerId>(l);
    if (plan_.session().executions(*record.pass, layer) == 0) quality_.add_skipped(layer);
  }
  const Duration wall = record.end - record.start;
  wall_ += wall;
  compute_bytes_ += record.compute_bytes;
  expert_bytes_ += record.expert_bytes;
  thermal_.add(record);
  cache_ += record.cache;
  flash_ += record.flash;
  prefetch_ += record.prefetch;
  pages_ += record.pages;
  for (std::size_t i = 0; i < record.tiers.size(); ++i) tiers_[i] += record.tiers[i];
  step_.tokens += record.pass->decoded_tokens();
  step_.wall += wall;
  add(step_.parts, record.parts);
  add(step_.path, record.path);
  step_.dependency += record.dependency;
  step_.flash_bound += record.flash_bound;
  step_.dram_bytes += record.dram_bytes;
  if (keep_rows_) add_rows(record);
  if (record.pass->ends_step) end_step();
}

// A token took as long as its step: that is when its sequence gets the next one.
void RunMetrics::end_step() {
  const std::size_t tokens = step_.tokens;
  walls_.insert(walls_.end(), tokens, step_.wall);
  if (keep_rows_) {
    for (std::size_t i = rows_.size() - tokens; i < rows_.size(); ++i) {
      rows_[i].wall = step_.wall;
      rows_[i].parts = step_.parts;
    }
  }
  const auto times = static_cast<std::int64_t>(tokens);
  token_wall_ += times * step_.wall;
  for (std::size_t i = 0; i < kTimeParts; ++i) parts_[i] += times * step_.parts[i];
  for (std::size_t i = 0; i < kPathParts; ++i) path_[i] += times * step_.path[i];
  dependency_ += times * step_.dependency;
  flash_bound_ += times * step_.flash_bound;
  dram_bytes_ += tokens * step_.dram_bytes;
  step_ = {};
}

void RunMetrics::add_rows(const PassRecord& record) {
  const Pass& pass = *record.pass;
  if (pass.tokens.empty()) {
    rows_.push_back({pass.first,
                     pass.sequence,
                     pass.position,
                     {},
                     {},
                     record.cache.demand_bytes + record.prefetch.issued_bytes,
                     record.cache.hits,
                     record.cache.misses,
                     record.experts,
                     record.flash.lane});
    return;
  }
  pass_rows_[0].read_bytes += record.prefetch.issued_bytes;
  pass_rows_[0].lane = record.flash.lane;
  for (std::size_t place = 0; place < pass.tokens.size(); ++place) {
    const PassToken& token = pass.tokens[place];
    TokenRow& row = pass_rows_[place];
    row.token = token.row;
    row.sequence = token.sequence;
    row.position = token.position;
    rows_.push_back(std::exchange(row, {}));
  }
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
  result.prediction = prediction_.result();
  result.token_cycle_bytes = plan_.token_cycle_bytes();
  result.cache_slots = cache_slots(plan_.cache_options());
  result.routing = quality_.result();
  if (plan_.config().schedule.batch.size > 1) result.batch = batch_result(plan_, cache_.accesses);
  result.low_precision = low_precision_;
  result.skipped_experts = skipped_experts_;
  result.warnings = plan_.warnings();
  const WeightRule rule = plan_.session().routing().weight_rule();
  const bool reweighs = rule == WeightRule::kAlteredLogits || rule == WeightRule::kOwn;
  if (result.routing.mean.agreement < 1 || reweighs) {
    result.warnings.push_back(
        "open loop: the recorded logits do not react to the experts that this routing swaps, drops "
        "or weighs otherwise, so later layers and tokens would differ in truth");
  }
  if (result.low_precision > 0) {
    result.warnings.push_back(
        "some experts ran at low precision: no proxy of the routing block says what that costs, "
        "and "
        "the recorded logits do not react to it");
  }
  result.rows = rows_;
  if (plan_.config().device) {
    result.time = time_result();
    result.memory = memory_result();
    if (result.memory->over_budget_mib() > 0) {
      result.warnings.push_back(fmt::format(
          "memory exceeds the app budget by {:.0f} MiB: {}", result.memory->over_budget_mib(),
          plan_.reclaims()
              ? "the times include that pages are reclaimed and faulted back, while a real device "
                "may end the app instead"
              : "the device has no memory.zram_gbps, so nothing is reclaimed here, while a real "
                "device would be slower or end the app"));
    }
    const Device& device = *plan_.config().device;
    const ExecutionOptions& execution = plan_.config().execution;
    if (knows_energy(device, execution)) result.energy = energy_result();
    result.thermal = thermal_.result(device, execution);
    result.notes = device_notes(device, execution);
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
  time.tpot_ms.mean = to_ms(token_wall_) / tokens;
  time.decode_tokens_per_s = tokens / to_seconds(wall_);
  if (first_tokens_ > 0)
    time.ttft_ms = to_ms(first_token_sum_) / static_cast<double>(first_tokens_);
  time.parts = parts_;
  time.path = path_;
  time.token_wall = token_wall_;
  time.wall = wall_;
  time.prefill_ms = to_ms(prefill_);
  time.dependency_ms = to_ms(dependency_) / tokens;
  time.flash_bound_ms = to_ms(flash_bound_) / tokens;
  const double total_bps = plan_.config().device->dram.total_gbps * 1e9;
  time.dram_bound_ms = static_cast<double>(dram_bytes_) / total_bps * 1e3 / tokens;
  time.flash = flash_;
  time.has_flash = plan_.config().device->flash.has_value();
  time.tiers.reserve(tiers_.size());
  for (std::size_t i = 0; i < tiers_.size(); ++i) {
    const TierConfig& tier = plan_.config().tiers[i];
    time.tiers.push_back({tier.name, tier.capacity_mib, tiers_[i]});
  }
  return time;
}

MemoryResult RunMetrics::memory_result() const {
  MemoryResult memory;
  const MemoryDemand demand = plan_.memory_demand();
  const auto tokens = static_cast<double>(walls_.size());
  memory.budget_mib = plan_.config().memory.app_budget_mib;
  memory.dense_mib = to_mib(demand.dense);
  memory.kv_peak_mib = to_mib(demand.kv_peak);
  memory.expert_cache_mib = to_mib(demand.expert_cache);
  memory.buffers_mib = plan_.config().memory.buffers_mib;
  memory.refault_mib_per_token = to_mib(pages_.refaulted) / tokens;
  memory.reclaim_mib_per_token = to_mib(pages_.stolen) / tokens;
  return memory;
}

// cpu_j_per_gb contains the DRAM energy of what the cores read; dram_j_per_gb is charged for DMA
// only, so that nothing is counted twice.
EnergyResult RunMetrics::energy_result() const {
  const Device& device = *plan_.config().device;
  const EnergySpec& spec = *device.energy;
  const auto tokens = static_cast<double>(walls_.size());
  // Pages of a file that come back are read too, though no lane does it.
  const double flash_gb = static_cast<double>(flash_.bytes + pages_.from_flash) * 1e-9;
  EnergyResult energy;
  add_agent_energy(device, plan_.config().execution, compute_bytes_ - expert_bytes_, expert_bytes_,
                   tokens, energy);
  const double arrived_gb =
      tiers_.empty() ? flash_gb : static_cast<double>(tiers_[0].link.bytes) * 1e-9;
  const double dma_gb = arrived_gb * dma_factor_of(device, plan_.config().execution.bounce);
  energy.by_component["dram_dma"] = dma_gb * spec.dram_j_per_gb / tokens;
  if (device.flash) energy.by_component["flash"] = flash_gb * spec.flash_j_per_gb / tokens;
  double link_j = 0;
  for (std::size_t i = 0; i < tiers_.size(); ++i) {
    link_j += static_cast<double>(tiers_[i].link.bytes) * 1e-9 * device.tiers[i].link.j_per_gb;
  }
  if (!tiers_.empty()) energy.by_component["links"] = link_j / tokens;
  energy.by_component["platform"] = to_seconds(wall_) * spec.platform_w / tokens;
  for (const auto& [name, joules] : energy.by_component) energy.j_per_token += joules;
  return energy;
}

}  // namespace moesim
