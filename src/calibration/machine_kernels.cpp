#include "calibration/machine_kernels.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace moesim {
namespace {

double gbps(const ProductRow& row) { return row.bytes() / row.seconds.mean * 1e-9; }

// Geometric means over expert-like shapes by threads; all formats or one.
std::map<std::size_t, double> log_rates(const std::vector<ProductRow>& products,
                                        const WeightFormat* only) {
  std::map<std::size_t, std::pair<double, std::size_t>> sums;
  for (const ProductRow& row : products) {
    if (!row.shape.is_expert_like() || (only != nullptr && row.format != *only)) continue;
    auto& [sum, count] = sums[row.threads];
    sum += std::log(gbps(row));
    ++count;
  }
  std::map<std::size_t, double> means;
  for (const auto& [threads, sum] : sums) {
    means[threads] = sum.first / static_cast<double>(sum.second);
  }
  return means;
}

FormatRate format_rate(const std::vector<ProductRow>& products, WeightFormat format,
                       std::size_t threads) {
  FormatRate rate;
  rate.repetitions = std::numeric_limits<std::size_t>::max();
  std::vector<double> rates;
  for (const ProductRow& row : products) {
    if (!row.shape.is_expert_like() || row.format != format || row.threads != threads) continue;
    rates.push_back(gbps(row));
    rate.repetitions = std::min(rate.repetitions, row.seconds.repetitions);
  }
  const Summary summary = summarise(rates);
  rate.gbps = summary.median;
  rate.spread = summary.spread;
  rate.shapes = rates.size();
  return rate;
}

// Gate and up are one job of the team, which pays its launch once; down is another.
double expert_seconds(const KernelModel& model, const ExpertRow& row) {
  const std::string format = device_format(row.format);
  const ExpertShape& shape = row.shape;
  return 2 * model.seconds(format, shape.intermediate, shape.hidden, row.threads) -
         model.launch_seconds(format, row.threads) +
         model.seconds(format, shape.hidden, shape.intermediate, row.threads);
}

}  // namespace

std::string device_format(WeightFormat format) {
  return format == WeightFormat::kFp16 ? "f16" : std::string(weight_format_name(format));
}

std::size_t best_threads(const std::vector<ProductRow>& products) {
  constexpr double kNearBest = 0.98;
  const auto means = log_rates(products, nullptr);
  double best = -std::numeric_limits<double>::infinity();
  for (const auto& [threads, mean] : means) best = std::max(best, mean);
  for (const auto& [threads, mean] : means) {
    if (mean - best >= std::log(kNearBest)) return threads;
  }
  return 1;
}

MachineKernels fit_machine_kernels(const MachineMeasurements& measured) {
  MachineKernels kernels;
  kernels.threads = best_threads(measured.products);
  for (const WeightFormat format : kWeightFormats) {
    kernels.rates[device_format(format)] = format_rate(measured.products, format, kernels.threads);
  }
  const WeightFormat half = WeightFormat::kFp16;
  for (const auto& [threads, mean] : log_rates(measured.products, &half)) {
    kernels.scaling.emplace_back(static_cast<double>(threads), std::exp(mean));
  }
  std::vector<KernelSample> samples;
  samples.reserve(measured.products.size());
  for (const ProductRow& row : measured.products) {
    samples.push_back({device_format(row.format), row.shape.rows, row.shape.columns, row.threads,
                       row.seconds.mean});
  }
  kernels.fit = fit_kernel_model(samples);
  std::vector<double> errors;
  errors.reserve(measured.experts.size());
  kernels.experts.reserve(measured.experts.size());
  for (const ExpertRow& row : measured.experts) {
    kernels.experts.push_back({row, expert_seconds(kernels.fit.model, row)});
    errors.push_back(std::abs(kernels.experts.back().error()));
  }
  if (!errors.empty()) kernels.expert_error = quantile(errors, 0.5);
  return kernels;
}

}  // namespace moesim
