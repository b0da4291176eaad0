#include "api/target_simulation.h"

#include <algorithm>
#include <functional>

#include "api/run.h"
#include "api/target_trace.h"

namespace moesim {
namespace {

using Rows = std::vector<TokenRow>;
using Value = std::function<double(const TokenRow&)>;

double part_ms(const TokenRow& token, TimePart part) {
  return to_ms(token.parts[static_cast<std::size_t>(part)]);
}

LatencyStatistics statistics(const Rows& tokens, const Value& value) {
  std::vector<double> values;
  values.reserve(tokens.size());
  for (const TokenRow& token : tokens) values.push_back(value(token));
  return latency_statistics(std::move(values));
}

// How the engine that was measured accounts for its time; see the columns of its tables.
struct Components {
  Value io;
  Value compute;
  Value stall;
  Value mgmt;
};

Components components_of(const TargetRow& row) {
  const bool mgmt_apart = metric_of(row.measured, "mgmt_ms").has_value();
  const auto stall = [](const TokenRow& token) { return part_ms(token, TimePart::kFlashStall); };
  const auto mgmt = [](const TokenRow& token) { return part_ms(token, TimePart::kAdmission); };
  const auto compute = [=](const TokenRow& token) {
    return part_ms(token, TimePart::kCompute) + part_ms(token, TimePart::kOverhead) +
           part_ms(token, TimePart::kPredictor) + (mgmt_apart ? 0.0 : mgmt(token));
  };
  const auto zero = [](const TokenRow&) { return 0.0; };
  if (row.mmap) {  // page faults are inside compute
    return {zero, [](const TokenRow& token) { return to_ms(token.wall); }, zero, zero};
  }
  if (!row.overlap) return {stall, compute, zero, mgmt};
  return {[](const TokenRow& token) { return to_ms(token.lane); }, compute, stall, mgmt};
}

double mean_of(const Rows& tokens, const std::function<std::uint64_t(const TokenRow&)>& value) {
  std::uint64_t sum = 0;
  for (const TokenRow& token : tokens) sum += value(token);
  return static_cast<double>(sum) / static_cast<double>(tokens.size());
}

double routed_bytes_per_token(const TargetRow& row) {
  double bytes = 0;
  for (const auto& [size, layers] : row.expert_bytes) {
    bytes += static_cast<double>(size) * static_cast<double>(layers * row.top_k);
  }
  return bytes;
}

// Reads of unaligned slices are padded to whole pages at both ends.
double read_mib(const TargetRow& row, const Rows& tokens, bool ahead) {
  const double bytes = mean_of(tokens, [](const TokenRow& token) { return token.read_bytes; });
  const double misses = mean_of(tokens, [](const TokenRow& token) { return token.misses; });
  // What is read ahead is no miss: then all reads are those of experts of the mean size.
  const double experts = static_cast<double>(row.layers * row.top_k);
  const double reads = ahead ? bytes * experts / routed_bytes_per_token(row) : misses;
  return (bytes + padding_bytes(row) * reads) / static_cast<double>(kMiB);
}

// Of all accesses of the run, prefill and every decoded token.
double cumulative_hit_pct(const RunResult& result) {
  const auto hits = static_cast<double>(result.prefill.hits + result.cache.hits);
  return 100 * hits / static_cast<double>(result.prefill.accesses + result.cache.accesses);
}

bool reads_ahead(const Json& config) {
  return config.contains("prefetch") && config.at("prefetch").at("policy") != "none";
}

double mean_wall(const Rows& tokens) {
  return statistics(tokens, [](const TokenRow& token) { return to_ms(token.wall); }).mean;
}

// Keys that were measured only, so that no number stands where the row has none.
void keep_keys_of(const Json& measured, Json& numbers) {
  for (auto it = numbers.begin(); it != numbers.end();) {
    const auto found = measured.find(it.key());
    const bool none =
        found == measured.end() || found->is_null() || found->is_object() != it.value().is_object();
    if (none) {
      it = numbers.erase(it);
      continue;
    }
    if (it.value().is_object()) keep_keys_of(*found, it.value());
    ++it;
  }
  for (const auto& item : measured.items()) {
    if (!numbers.contains(item.key())) numbers[item.key()] = nullptr;
  }
}

Json numbers_of(const TargetRow& row, const RunResult& result, const Rows& tokens, bool ahead) {
  const Components components = components_of(row);
  const LatencyStatistics wall =
      statistics(tokens, [](const TokenRow& token) { return to_ms(token.wall); });
  const LatencyStatistics io = statistics(tokens, components.io);
  const LatencyStatistics compute = statistics(tokens, components.compute);
  const LatencyStatistics stall = statistics(tokens, components.stall);
  const LatencyStatistics mgmt = statistics(tokens, components.mgmt);
  const double bytes = mean_of(tokens, [](const TokenRow& token) { return token.read_bytes; });
  Json numbers = {
      {"tok_s", 1000 / wall.mean},
      {"tok_s_all_tokens", 1000 / mean_wall(result.rows)},
      {"wall_ms", {{"mean", wall.mean}, {"p50", wall.p50}, {"p90", wall.p90}, {"p99", wall.p99}}},
      {"io_ms", io.mean},
      {"compute_ms", compute.mean},
      {"stall_ms", stall.mean},
      {"mgmt_ms", mgmt.mean},
      {"mib_per_token", read_mib(row, tokens, ahead)},
      {"hit_pct", cumulative_hit_pct(result)},
      {"byte_hit_pct", 100 * (1 - bytes / routed_bytes_per_token(row))},
      {"median",
       {{"io_ms", io.p50},
        {"compute_ms", compute.p50},
        {"stall_ms", stall.p50},
        {"mgmt_ms", mgmt.p50}}},
      {"tokens_used", tokens.size()},
      {"tokens_dropped", result.rows.size() - tokens.size()}};
  keep_keys_of(row.measured, numbers);
  return numbers;
}

}  // namespace

SimulatedRow simulate_row(const TargetRow& row, const Json& config,
                          const std::filesystem::path& folder) {
  const auto plan = plan_run({config, row.place, folder, {}});
  ExecuteOptions options;
  options.keep_rows = true;
  options.with_bounds = false;
  const RunResult result = execute(*plan, options);
  if (result.rows.size() <= row.tokens_dropped) {
    throw user_error(row.place, "its routing has no more tokens than are dropped");
  }
  const Rows tokens(result.rows.begin() + static_cast<std::ptrdiff_t>(row.tokens_dropped),
                    result.rows.end());
  SimulatedRow simulated;
  simulated.numbers = numbers_of(row, result, tokens, reads_ahead(config));
  simulated.walls_ms.reserve(result.rows.size());
  for (const TokenRow& token : result.rows) simulated.walls_ms.push_back(to_ms(token.wall));
  return simulated;
}

}  // namespace moesim
