#include "calibration/run_comparison.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <tuple>

#include "core/errors.h"

namespace moesim {
namespace {

double off(double simulated, double real) { return simulated / real - 1; }

double wall_ms(const TokenRow& row) { return to_ms(row.wall); }

double part_ms(const RunResult& run, TimePart part) {
  return to_ms(run.time->parts[static_cast<std::size_t>(part)]) /
         static_cast<double>(run.measured_tokens);
}

double io_ms(const RunResult& run) {
  return to_ms(run.time->flash.lane) / static_cast<double>(run.measured_tokens);
}

double mape(const RunResult& run, const RunResult& base) {
  double sum = 0;
  for (std::size_t i = 0; i < base.rows.size(); ++i) {
    sum += std::abs(off(wall_ms(run.rows[i]), wall_ms(base.rows[i])));
  }
  return sum / static_cast<double>(base.rows.size());
}

double mean_wall(const RunResult& run) {
  double sum = 0;
  for (const TokenRow& row : run.rows) sum += wall_ms(row);
  return sum / static_cast<double>(run.rows.size());
}

std::optional<double> correlation(const RunResult& a, const RunResult& b) {
  const double mean_a = mean_wall(a);
  const double mean_b = mean_wall(b);
  double ab = 0;
  double aa = 0;
  double bb = 0;
  for (std::size_t i = 0; i < a.rows.size(); ++i) {
    const double da = wall_ms(a.rows[i]) - mean_a;
    const double db = wall_ms(b.rows[i]) - mean_b;
    ab += da * db;
    aa += da * da;
    bb += db * db;
  }
  if (aa <= 0 || bb <= 0) return std::nullopt;
  return ab / std::sqrt(aa * bb);
}

void require_same_tokens(const RunResult& a, const RunResult& b) {
  const bool same =
      a.time && b.time && !a.rows.empty() &&
      std::equal(a.rows.begin(), a.rows.end(), b.rows.begin(), b.rows.end(),
                 [](const TokenRow& x, const TokenRow& y) { return x.token == y.token; });
  if (!same) throw InvariantError("two runs are compared that did not decode the same tokens");
}

template <class Value>
double largest_distance(const std::vector<RunResult>& runs, std::size_t median, Value value) {
  const double base = value(runs[median]);
  double largest = 0;
  for (const RunResult& run : runs) largest = std::max(largest, std::abs(off(value(run), base)));
  return largest;
}

}  // namespace

TimeErrors compare_times(const RunResult& real, const RunResult& simulated) {
  require_same_tokens(real, simulated);
  const LatencyStatistics& r = real.time->tpot_ms;
  const LatencyStatistics& s = simulated.time->tpot_ms;
  TimeErrors errors;
  errors.mean = off(s.mean, r.mean);
  errors.p50 = off(s.p50, r.p50);
  errors.p90 = off(s.p90, r.p90);
  errors.p99 = off(s.p99, r.p99);
  errors.per_token_mape = mape(simulated, real);
  errors.correlation = correlation(real, simulated);
  const auto part = [&](double simulated_ms, double real_ms) -> std::optional<double> {
    if (real_ms < 0.01 * r.mean) return std::nullopt;
    return off(simulated_ms, real_ms);
  };
  errors.compute = part(part_ms(simulated, TimePart::kCompute), part_ms(real, TimePart::kCompute));
  errors.flash_stall =
      part(part_ms(simulated, TimePart::kFlashStall), part_ms(real, TimePart::kFlashStall));
  errors.io = part(io_ms(simulated), io_ms(real));
  return errors;
}

std::size_t median_run(const std::vector<RunResult>& runs) {
  if (runs.empty()) throw InvariantError("the median of no runs");
  std::vector<std::size_t> order(runs.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return runs[a].time->tpot_ms.mean < runs[b].time->tpot_ms.mean;
  });
  return order[(order.size() - 1) / 2];
}

RealNoise noise_of(const std::vector<RunResult>& runs) {
  const std::size_t median = median_run(runs);
  const auto of = [&](auto value) { return largest_distance(runs, median, value); };
  RealNoise noise;
  noise.repeats = runs.size();
  noise.mean = of([](const RunResult& run) { return run.time->tpot_ms.mean; });
  noise.p50 = of([](const RunResult& run) { return run.time->tpot_ms.p50; });
  noise.p90 = of([](const RunResult& run) { return run.time->tpot_ms.p90; });
  noise.p99 = of([](const RunResult& run) { return run.time->tpot_ms.p99; });
  for (std::size_t i = 0; i < runs.size(); ++i) {
    if (i == median) continue;
    require_same_tokens(runs[median], runs[i]);
    noise.per_token_mape += mape(runs[i], runs[median]) / static_cast<double>(runs.size() - 1);
  }
  return noise;
}

std::string first_difference(const RunResult& real, const RunResult& simulated) {
  require_same_tokens(real, simulated);
  const auto differ = [](const std::string& what, std::uint64_t a, std::uint64_t b) {
    return a == b ? std::string() : fmt::format("{}: real {}, simulated {}", what, a, b);
  };
  for (std::size_t i = 0; i < real.rows.size(); ++i) {
    const TokenRow& r = real.rows[i];
    const TokenRow& s = simulated.rows[i];
    for (const auto& [what, a, b] :
         {std::tuple{"hits", r.hits, s.hits}, std::tuple{"misses", r.misses, s.misses},
          std::tuple{"experts", r.experts, s.experts},
          std::tuple{"bytes read", r.read_bytes, s.read_bytes}}) {
      std::string difference = differ(fmt::format("token {}: {}", r.token, what), a, b);
      if (!difference.empty()) return difference;
    }
  }
  const CacheCounts& r = real.cache;
  const CacheCounts& s = simulated.cache;
  for (const auto& [what, a, b] :
       {std::tuple{"evictions", r.evictions, s.evictions}, std::tuple{"loads", r.loads, s.loads},
        std::tuple{"cold misses", r.cold_misses, s.cold_misses},
        std::tuple{"bytes from flash", real.time->flash.bytes, simulated.time->flash.bytes},
        std::tuple{"reads", real.time->flash.reads, simulated.time->flash.reads}}) {
    std::string difference = differ(what, a, b);
    if (!difference.empty()) return difference;
  }
  return {};
}

}  // namespace moesim
