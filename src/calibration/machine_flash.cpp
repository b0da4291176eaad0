#include "calibration/machine_flash.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <map>

#include "calibration/depth_fit.h"
#include "hardware/flash_device.h"

namespace moesim {
namespace {

// From here on reads are what experts are read with. One line does not fit both them and small
// reads, which several queues of a device serve side by side; below, the curve may take over.
constexpr std::uint64_t kFittedFrom = std::uint64_t{256} << 10;

// Where readahead runs so far ahead that a whole expert is one counted fault, a window is what
// Linux reads ahead by default, so that sizes are rounded up to no more than that.
constexpr double kReadaheadKib = 128;

FlashTable rows_from(const FlashTable& table, std::uint64_t least) {
  FlashTable rows;
  std::copy_if(table.begin(), table.end(), std::back_inserter(rows),
               [least](const FlashRow& row) { return row.read_bytes >= least; });
  return rows;
}

FlashTable random_lanes(const std::vector<ReadRow>& reads) {
  FlashTable table;
  table.reserve(reads.size());
  for (const ReadRow& read : reads) {
    const ReadCell& cell = read.cell;
    if (cell.method != ReadMethod::kLanes || cell.sequential) continue;
    table.push_back({cell.read_bytes, cell.depth, read.bytes_per_s.median});
  }
  return table;
}

FlashSpec spec_of(const FlashFit& fit, std::size_t most_lanes) {
  FlashSpec spec;
  spec.bw_gbps = fit.bw_gbps;
  spec.dev_cmd_us = fit.dev_cmd_us;
  spec.host_delay_us = fit.host_delay_us;
  spec.copy_gbps = fit.copy_gbps;
  spec.qd_limit = most_lanes;
  return spec;
}

// GB/s that the queue model's device serves of such reads at most, whatever the lanes.
double device_gbps(const FlashSpec& spec, std::uint64_t bytes) {
  const FlashDevice device(spec, spec.qd_limit);
  return static_cast<double>(bytes) / to_seconds(device.service_time(bytes)) * 1e-9;
}

double rounded(double gbps) { return std::round(gbps * 1e5) / 1e5; }

FlashFit fit_table(const FlashTable& table) {
  constexpr double kWorthIt = 0.9;
  constexpr double kGoodEnough = 0.01;
  FlashFit plain = fit_flash(table, {}, "measured reads");
  FlashFitOptions with_copy;
  with_copy.copy_gbps.reset();
  if (table.size() < 8 || plain.rms < kGoodEnough) return plain;
  FlashFit copying = fit_flash(table, with_copy, "measured reads");
  return copying.rms < kWorthIt * plain.rms ? copying : plain;
}

// Whether the times by depth are worth their values: better by a tenth over all cells, and not
// worse over those that experts are read with.
bool is_better(const FlashSpec& by_depth, const FlashSpec& plain, const FlashTable& all,
               const FlashTable& large) {
  constexpr double kWorthIt = 0.9;
  constexpr double kGoodEnough = 0.01;
  const double large_rms = evaluate_flash(large, plain).rms;
  const double all_rms = evaluate_flash(all, plain).rms;
  return all_rms > kGoodEnough && evaluate_flash(all, by_depth).rms < kWorthIt * all_rms &&
         evaluate_flash(large, by_depth).rms <= large_rms;
}

}  // namespace

std::vector<std::pair<double, double>> small_read_curve(const FlashTable& table,
                                                        const FlashSpec& spec) {
  constexpr double kFaster = 1.05;
  std::map<std::uint64_t, double> served;  // GB/s at most, by size
  for (const FlashRow& row : table) {
    double& best = served[row.read_bytes];
    best = std::max(best, row.bytes_per_s * 1e-9);
  }
  std::vector<std::pair<double, double>> curve;
  std::size_t needed = 0;  // points up to the last one that the model is too fast for
  for (const auto& [bytes, gbps] : served) {
    if (bytes >= kFittedFrom) break;
    curve.emplace_back(static_cast<double>(bytes) / 1024, rounded(gbps));
    if (device_gbps(spec, bytes) > kFaster * gbps) needed = curve.size();
  }
  if (needed == 0) return {};
  const auto end = std::next(served.begin(), static_cast<std::ptrdiff_t>(needed));
  const std::uint64_t end_bytes = end != served.end() ? end->first : kFittedFrom;
  curve.resize(needed);
  curve.emplace_back(static_cast<double>(end_bytes) / 1024, rounded(device_gbps(spec, end_bytes)));
  return curve;
}

std::size_t best_lanes(const FlashTable& table) {
  constexpr double kNearBest = 0.97;
  FlashTable rows = rows_from(table, kFittedFrom);
  if (rows.empty()) rows = table;
  std::map<std::size_t, double> log_rates;
  for (const FlashRow& row : rows) log_rates[row.lanes] += std::log(row.bytes_per_s);
  const auto sizes = static_cast<double>(rows.size()) / static_cast<double>(log_rates.size());
  double best = -std::numeric_limits<double>::infinity();
  for (const auto& [lanes, sum] : log_rates) best = std::max(best, sum);
  for (const auto& [lanes, sum] : log_rates) {
    if ((sum - best) / sizes >= std::log(kNearBest)) return lanes;
  }
  return 1;
}

double log_normal_sigma(const std::vector<double>& deviations) {
  constexpr double kQuartilesOfNormal = 1.349;
  if (deviations.empty()) return 0;
  return (quantile(deviations, 0.75) - quantile(deviations, 0.25)) / kQuartilesOfNormal;
}

MachineFlash fit_machine_flash(const MachineMeasurements& measured) {
  MachineFlash flash;
  flash.table = random_lanes(measured.reads);
  FlashTable fitted = rows_from(flash.table, kFittedFrom);
  if (fitted.size() < 4) fitted = flash.table;  // A scratch file too small for large reads.
  std::size_t most = 1;
  for (const ReadRow& read : measured.reads) most = std::max(most, read.cell.depth);
  flash.spec = spec_of(fit_table(fitted), most);
  flash.spec.small_read_curve = small_read_curve(flash.table, flash.spec);
  FlashSpec by_depth = fit_by_depth(flash.table, spec_of({}, most));
  by_depth.small_read_curve = small_read_curve(flash.table, by_depth);
  if (is_better(by_depth, flash.spec, flash.table, fitted)) {
    flash.spec = by_depth;
    fitted = flash.table;
  }
  flash.fitted_cells = fitted.size();
  flash.rms = evaluate_flash(fitted, flash.spec).rms;
  flash.spec.lanes = best_lanes(flash.table);
  flash.spec.noise_sigma = std::min(1.0, log_normal_sigma(measured.read_deviations));
  flash.rms_all = evaluate_flash(flash.table, flash.spec).rms;
  if (!measured.fault_s.empty()) {
    const double kib = summarise(measured.fault_bytes).median / 1024;
    flash.spec.mmap_window_kib = std::min(kib, kReadaheadKib);
    flash.spec.mmap_fault_us =
        summarise(measured.fault_s).median * 1e6 * flash.spec.mmap_window_kib / kib;
  }
  return flash;
}

}  // namespace moesim
