#include "calibration/flash_fit.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <queue>

#include "calibration/box_search.h"
#include "core/errors.h"
#include "hardware/flash_device.h"

namespace moesim {
namespace {

// A FlashDevice whose lanes always have a next read, with an event queue of its own: the engine's
// lies in a layer above.
class ClosedLoop {
 public:
  ClosedLoop(const FlashSpec& spec, std::uint64_t read_bytes, std::size_t lanes)
      : flash_(spec, lanes), read_{0, read_bytes, false} {
    for (std::size_t lane = 0; lane < flash_.lanes(); ++lane) start_read();
  }

  [[nodiscard]] std::size_t lanes() const { return flash_.lanes(); }

  // Runs until `reads` more reads have ended; returns when.
  Duration complete(std::size_t reads) {
    for (const std::size_t target = completed_ + reads; completed_ < target;) step();
    return now_;
  }

 private:
  struct Event {
    Duration at;
    std::uint64_t sequence;
    std::optional<std::size_t> host_lane;  // nullopt: the end of a service
    bool operator>(const Event& other) const {
      return at != other.at ? at > other.at : sequence > other.sequence;
    }
  };

  void schedule(Duration delay, std::optional<std::size_t> host_lane) {
    events_.push({now_ + delay, sequence_++, host_lane});
  }
  void start_read() {
    flash_.enqueue(read_);
    schedule(flash_.host_delay(read_.bytes), flash_.start_next()->lane);
  }
  void step() {
    const Event event = events_.top();
    events_.pop();
    now_ = event.at;
    if (event.host_lane) {
      if (flash_.host_done(*event.host_lane)) schedule(flash_.service_time(read_.bytes), {});
      return;
    }
    ++completed_;
    if (flash_.service_done().next) schedule(flash_.service_time(read_.bytes), {});
    start_read();
  }

  FlashDevice flash_;
  FlashRead read_;
  Duration now_{0};
  std::uint64_t sequence_ = 0;
  std::size_t completed_ = 0;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
};

double rms_of(const FlashTable& table, const FlashSpec& spec) {
  double sum = 0;
  for (const FlashRow& row : table) {
    const double simulated = simulate_throughput(spec, row.read_bytes, row.lanes);
    const double log_ratio = std::log(simulated / row.bytes_per_s);
    sum += log_ratio * log_ratio;
  }
  return std::sqrt(sum / static_cast<double>(table.size()));
}

// The values of a fit as a search sees them: host delay, device time, device rate and, where it is
// fitted, copy rate. Times as log(1 + us), rates as log(GB/s): a step is a relative change where
// values are large, and 0 us remains within reach.
class Scale {
 public:
  Scale(const FlashTable& table, const FlashFitOptions& options)
      : fixed_copy_gbps_(options.copy_gbps) {
    for (const FlashRow& row : table) {
      fastest_gbps_ = std::max(fastest_gbps_, row.bytes_per_s * 1e-9);
      base_.qd_limit = std::max(base_.qd_limit, row.lanes);
    }
  }

  [[nodiscard]] Box box() const {
    Box box{{0.0, 0.0, std::log(0.5 * fastest_gbps_)},
            {std::log1p(5000.0), std::log1p(500.0), std::log(4.0 * fastest_gbps_)}};
    if (!fixed_copy_gbps_) {
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
    return spec;
  }

 private:
  FlashSpec base_;
  double fastest_gbps_ = 0;
  std::optional<double> fixed_copy_gbps_;
};

constexpr NumberRange kCopyRate{0.0, 1e6};

double rounded(double value, double per_unit) { return std::round(value * per_unit) / per_unit; }

FlashSpec rounded(FlashSpec spec, bool round_copy) {
  spec.host_delay_us = rounded(spec.host_delay_us, 10);
  spec.dev_cmd_us = rounded(spec.dev_cmd_us, 10);
  spec.bw_gbps = rounded(spec.bw_gbps, 1000);
  if (round_copy) spec.copy_gbps = rounded(spec.copy_gbps, 1000);
  return spec;
}

}  // namespace

double simulate_throughput(const FlashSpec& spec, std::uint64_t read_bytes, std::size_t lanes) {
  // All lanes start together; after one round they have spread out for good.
  constexpr std::size_t kWarmUpRounds = 2;
  constexpr std::size_t kRounds = 2;
  ClosedLoop loop(spec, read_bytes, lanes);
  const Duration start = loop.complete(kWarmUpRounds * loop.lanes());
  const std::size_t reads = kRounds * loop.lanes();
  const Duration end = loop.complete(reads);
  return static_cast<double>(reads) * static_cast<double>(read_bytes) / to_seconds(end - start);
}

FlashFit evaluate_flash(const FlashTable& table, const FlashSpec& spec) {
  FlashFit result;
  result.host_delay_us = spec.host_delay_us;
  result.dev_cmd_us = spec.dev_cmd_us;
  result.bw_gbps = spec.bw_gbps;
  result.copy_gbps = spec.copy_gbps;
  result.rms = rms_of(table, spec);
  for (const FlashRow& row : table) {
    const double simulated = simulate_throughput(spec, row.read_bytes, row.lanes);
    result.rows.push_back({row, simulated, simulated / row.bytes_per_s - 1.0});
  }
  return result;
}

FlashFit fit_flash(const FlashTable& table, const FlashFitOptions& options,
                   const std::string& shown) {
  if (options.copy_gbps && !kCopyRate.contains(*options.copy_gbps)) {
    throw user_error("copy_gbps",
                     fmt::format("expected {}, got {}", kCopyRate.text(), *options.copy_gbps));
  }
  const Scale scale(table, options);
  const Box box = scale.box();
  if (table.size() < box.low.size()) {
    throw user_error(shown, fmt::format("expected at least {} rows, one per fitted value, got {}",
                                        box.low.size(), table.size()));
  }
  const std::vector<double> best = minimise_in_box(
      box, [&](const std::vector<double>& point) { return rms_of(table, scale.spec(point)); });
  return evaluate_flash(table, rounded(scale.spec(best), !options.copy_gbps));
}

}  // namespace moesim
