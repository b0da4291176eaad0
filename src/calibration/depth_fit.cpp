#include "calibration/depth_fit.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>
#include <vector>

#include "calibration/box_search.h"

namespace moesim {
namespace {

using Rows = std::vector<FlashRow>;  // of one number of lanes

double rounded(double value, double per_unit) { return std::round(value * per_unit) / per_unit; }

// Squared logarithms of simulated / measured: all lanes have a read in flight.
double error_of(const Rows& rows, double gbps, double command_us) {
  double sum = 0;
  for (const FlashRow& row : rows) {
    const auto bytes = static_cast<double>(row.read_bytes);
    const double seconds = command_us * 1e-6 + bytes / (gbps * 1e9);
    const double error = std::log(bytes / seconds / row.bytes_per_s);
    sum += error * error;
  }
  return sum;
}

// The time per read that fits these rows best at that rate.
double command_us(const Rows& rows, double gbps) {
  double longest_us = 0;
  for (const FlashRow& row : rows) {
    longest_us = std::max(longest_us, static_cast<double>(row.read_bytes) / row.bytes_per_s * 1e6);
  }
  const Box box{{0.0}, {std::log1p(longest_us)}};
  const auto best = minimise_in_box(box, [&](const std::vector<double>& point) {
    return error_of(rows, gbps, std::expm1(point[0]));
  });
  return std::expm1(best[0]);
}

}  // namespace

// At a given rate the depths do not depend on each other, so one value is searched for at a time.
FlashSpec fit_by_depth(const FlashTable& table, const FlashSpec& base) {
  std::map<std::size_t, Rows> depths;
  double fastest = 0;
  for (const FlashRow& row : table) {
    depths[row.lanes].push_back(row);
    fastest = std::max(fastest, row.bytes_per_s * 1e-9);
  }
  const auto error_at = [&](double gbps) {
    double sum = 0;
    for (const auto& [lanes, rows] : depths) sum += error_of(rows, gbps, command_us(rows, gbps));
    return sum;
  };
  const Box box{{std::log(0.9 * fastest)}, {std::log(2 * fastest)}};
  const auto best = minimise_in_box(
      box, [&](const std::vector<double>& point) { return error_at(std::exp(point[0])); });
  FlashSpec spec = base;
  spec.bw_gbps = rounded(std::exp(best[0]), 1000);
  spec.host_delay_us = spec.dev_cmd_us = spec.copy_gbps = 0;
  for (const auto& [lanes, rows] : depths) {
    const double us = rounded(command_us(rows, spec.bw_gbps), 10);
    spec.command_curve.emplace_back(static_cast<double>(lanes), us);
  }
  return spec;
}

}  // namespace moesim
