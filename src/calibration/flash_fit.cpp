#include "calibration/flash_fit.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "calibration/box_search.h"
#include "calibration/flash_loop.h"
#include "core/errors.h"

namespace moesim {
namespace {

double squared_log(double ratio) {
  const double log_ratio = std::log(ratio);
  return log_ratio * log_ratio;
}

// Sums of squared logarithms of simulated / measured.
double table_error(const FlashTable& table, const FlashSpec& spec) {
  double sum = 0;
  for (const FlashRow& row : table) {
    sum += squared_log(simulate_throughput(spec, row.read_bytes, row.lanes) / row.bytes_per_s);
  }
  return sum;
}

double rows_error(const std::vector<EngineRow>& rows, const FlashSpec& spec) {
  double sum = 0;
  for (const EngineRow& row : rows) sum += squared_log(engine_io_ms(spec, row) / row.io_ms);
  return sum;
}

double root_mean(double sum, double count) { return count > 0 ? std::sqrt(sum / count) : 0.0; }

// What a fit minimises: the root of the weighted mean.
double joint_error(const FlashTable& table, const FlashFitOptions& options, const FlashSpec& spec) {
  const double weight = options.engine_rows.empty() ? 0.0 : options.rows_weight;
  double sum = table_error(table, spec);
  if (weight > 0) sum += weight * rows_error(options.engine_rows, spec);
  const auto rows = static_cast<double>(options.engine_rows.size());
  return root_mean(sum, static_cast<double>(table.size()) + weight * rows);
}

// The values of a fit as a search sees them: host delay, device time, device rate and, where they
// are fitted, copy rate and bounce rate. Times as log(1 + us), rates as log(GB/s): a step is a
// relative change where values are large, and 0 us remains within reach.
class Scale {
 public:
  Scale(const FlashTable& table, const FlashFitOptions& options)
      : fixed_copy_gbps_(options.copy_gbps), fixed_bounce_gbps_(options.bounce_gbps) {
    for (const FlashRow& row : table) {
      fastest_gbps_ = std::max(fastest_gbps_, row.bytes_per_s * 1e-9);
      base_.qd_limit = std::max(base_.qd_limit, row.lanes);
    }
    for (const EngineRow& row : options.engine_rows) {
      base_.qd_limit = std::max(base_.qd_limit, row.lanes);
    }
  }

  [[nodiscard]] Box box() const {
    Box box{{0.0, 0.0, std::log(0.5 * fastest_gbps_)},
            {std::log1p(5000.0), std::log1p(500.0), std::log(4.0 * fastest_gbps_)}};
    for (const auto& fixed : {fixed_copy_gbps_, fixed_bounce_gbps_}) {
      if (fixed) continue;
      box.low.push_back(std::log(0.2 * fastest_gbps_));
      box.high.push_back(std::log(50.0 * fastest_gbps_));
    }
    return box;
  }

  [[nodiscard]] FlashSpec spec(const std::vector<double>& point) const {
    FlashSpec spec = base_;
    spec.host_delay_us = std::expm1(point[0]);
    spec.dev_cmd_us = std::expm1(point[1]);
    spec.bw_gbps = std::exp(point[2]);
    spec.copy_gbps = fixed_copy_gbps_ ? *fixed_copy_gbps_ : std::exp(point[3]);
    spec.bounce_gbps = fixed_bounce_gbps_ ? *fixed_bounce_gbps_ : std::exp(point.back());
    return spec;
  }

 private:
  FlashSpec base_;
  double fastest_gbps_ = 0;
  std::optional<double> fixed_copy_gbps_;
  std::optional<double> fixed_bounce_gbps_;
};

constexpr NumberRange kCopyRate{0.0, 1e6};

double rounded(double value, double per_unit) { return std::round(value * per_unit) / per_unit; }

FlashSpec rounded(FlashSpec spec, const FlashFitOptions& options) {
  spec.host_delay_us = rounded(spec.host_delay_us, 10);
  spec.dev_cmd_us = rounded(spec.dev_cmd_us, 10);
  spec.bw_gbps = rounded(spec.bw_gbps, 1000);
  if (!options.copy_gbps) spec.copy_gbps = rounded(spec.copy_gbps, 1000);
  if (!options.bounce_gbps) spec.bounce_gbps = rounded(spec.bounce_gbps, 1000);
  return spec;
}

void check_rate(const char* name, const std::optional<double>& gbps) {
  if (!gbps || kCopyRate.contains(*gbps)) return;
  throw user_error(name, fmt::format("expected {}, got {}", kCopyRate.text(), *gbps));
}

void check_options(const FlashFitOptions& options) {
  check_rate("copy_gbps", options.copy_gbps);
  check_rate("bounce_gbps", options.bounce_gbps);
  if (!kNonNegative.contains(options.rows_weight)) {
    throw user_error("rows_weight",
                     fmt::format("expected {}, got {}", kNonNegative.text(), options.rows_weight));
  }
  const auto is_bounced = [](const EngineRow& row) { return row.bounce; };
  const std::vector<EngineRow>& rows = options.engine_rows;
  const bool seen = options.rows_weight > 0 && std::any_of(rows.begin(), rows.end(), is_bounced);
  if (!options.bounce_gbps && !seen) {
    throw user_error("bounce_gbps", "expected a rate, because no engine row with bounce tells one");
  }
}

}  // namespace

double simulate_throughput(const FlashSpec& spec, std::uint64_t read_bytes, std::size_t lanes) {
  // All lanes start together; after one round they have spread out for good.
  constexpr std::size_t kWarmUpRounds = 2;
  constexpr std::size_t kRounds = 2;
  FlashSpec aligned = spec;
  aligned.bounce_gbps = 0;
  FlashLoop loop(aligned, lanes);
  loop.keep_busy(read_bytes);
  const Duration start = loop.complete(kWarmUpRounds * loop.device().lanes());
  const std::size_t reads = kRounds * loop.device().lanes();
  const Duration end = loop.complete(reads);
  return static_cast<double>(reads) * static_cast<double>(read_bytes) / to_seconds(end - start);
}

FlashFit evaluate_flash(const FlashTable& table, const FlashSpec& spec,
                        const std::vector<EngineRow>& engine_rows) {
  FlashFit result;
  result.host_delay_us = spec.host_delay_us;
  result.dev_cmd_us = spec.dev_cmd_us;
  result.bw_gbps = spec.bw_gbps;
  result.copy_gbps = spec.copy_gbps;
  result.bounce_gbps = spec.bounce_gbps;
  result.rms = root_mean(table_error(table, spec), static_cast<double>(table.size()));
  result.engine_rms =
      root_mean(rows_error(engine_rows, spec), static_cast<double>(engine_rows.size()));
  result.engine_rows.reserve(engine_rows.size());
  for (const EngineRow& row : engine_rows) {
    const double simulated = engine_io_ms(spec, row);
    result.engine_rows.push_back({row, simulated, simulated / row.io_ms - 1.0});
  }
  for (const FlashRow& row : table) {
    const double simulated = simulate_throughput(spec, row.read_bytes, row.lanes);
    result.rows.push_back({row, simulated, simulated / row.bytes_per_s - 1.0});
  }
  return result;
}

FlashFit fit_flash(const FlashTable& table, const FlashFitOptions& options,
                   const std::string& shown) {
  check_options(options);
  const Scale scale(table, options);
  const Box box = scale.box();
  const std::size_t given = table.size() + options.engine_rows.size();
  if (given < box.low.size()) {
    throw user_error(shown, fmt::format("expected at least {} rows, one per fitted value, got {}",
                                        box.low.size(), given));
  }
  const std::vector<double> best = minimise_in_box(box, [&](const std::vector<double>& point) {
    return joint_error(table, options, scale.spec(point));
  });
  return evaluate_flash(table, rounded(scale.spec(best), options), options.engine_rows);
}

}  // namespace moesim
