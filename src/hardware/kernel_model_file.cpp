// Reads and writes cpu.kernel_model of a device file.
#include <fmt/format.h>

#include <utility>

#include "hardware/kernel_model.h"

namespace moesim {
namespace {

constexpr std::uint64_t kMostThreads = 4096;
constexpr NumberRange kMicroseconds{0.0, 1e9};
constexpr NumberRange kRate{1e-6, 1e6};    // GB/s
constexpr NumberRange kExtent{1.0, 1e12};  // rows, columns
constexpr NumberRange kMebibytes{1e-9, 1e9};
constexpr NumberRange kCoefficient{-100.0, 100.0};
constexpr NumberRange kResidual{-kMostKernelResidual, kMostKernelResidual};

ClosedRange read_range(Section& curve, const std::string& key, const NumberRange& range) {
  const std::vector<double> ends = curve.numbers(key, range);
  if (ends.size() != 2 || ends[0] > ends[1]) {
    throw curve.error(key, "expected [lowest, highest], got " + curve.raw(key).dump());
  }
  return {ends[0], ends[1]};
}

std::vector<KernelTerm> read_residual(Section residual) {
  std::vector<KernelTerm> terms;
  const std::vector<KernelFeature>& features = kernel_features();
  for (std::size_t i = 0; i < features.size(); ++i) {
    const std::string name(features[i].name);
    residual.know(name);
    if (residual.has(name)) terms.push_back({i, residual.number(name, kCoefficient)});
  }
  return terms;
}

KernelCurve read_curve(Section section, const std::string& format) {
  KernelCurve curve;
  curve.format = format;
  curve.threads = section.integer("threads", 1, kMostThreads);
  curve.launch_us = section.number("launch_us", kMicroseconds);
  curve.rate_gbps = section.number("rate_gbps", kRate);
  curve.rows = read_range(section, "rows", kExtent);
  curve.columns = read_range(section, "columns", kExtent);
  curve.mib = read_range(section, "mib", kMebibytes);
  curve.residual_range = read_range(section, "residual_range", kResidual);
  curve.residual = read_residual(section.object("residual"));
  section.reject_unread_keys();
  return curve;
}

void read_curves(Section& section, const std::string& format, std::vector<KernelCurve>& curves) {
  const Json& list = section.raw(format);
  if (!list.is_array() || list.empty()) {
    throw section.error(
        format, "expected an array of curves, one per number of threads, got " + list.dump());
  }
  std::size_t last = 0;
  for (std::size_t i = 0; i < list.size(); ++i) {
    const std::string pointer = fmt::format("{}/{}/{}", section.pointer(), format, i);
    curves.push_back(read_curve(Section(list[i], section.file(), pointer), format));
    if (curves.back().threads <= last) {
      throw section.error(format, fmt::format("expected rising threads, got {} after {}",
                                              curves.back().threads, last));
    }
    last = curves.back().threads;
  }
}

Json range_json(const ClosedRange& range) { return {range.low, range.high}; }

Json extent_json(const ClosedRange& range) {
  return {static_cast<std::uint64_t>(range.low), static_cast<std::uint64_t>(range.high)};
}

}  // namespace

KernelModel read_kernel_model(Section section) {
  std::vector<KernelCurve> curves;
  for (const std::string& format : kernel_formats()) {
    section.know(format);
    if (section.has(format)) read_curves(section, format, curves);
  }
  section.reject_unread_keys();
  if (curves.empty()) throw section.error_here("expected curves of f16, q8 or q4, got none");
  return KernelModel(std::move(curves));
}

Json kernel_model_json(const KernelModel& model) {
  Json json = Json::object();
  for (const KernelCurve& curve : model.curves()) {
    Json residual = Json::object();
    for (const KernelTerm& term : curve.residual) {
      residual[std::string(kernel_features()[term.feature].name)] = term.coefficient;
    }
    json[curve.format].push_back({{"threads", curve.threads},
                                  {"launch_us", curve.launch_us},
                                  {"rate_gbps", curve.rate_gbps},
                                  {"rows", extent_json(curve.rows)},
                                  {"columns", extent_json(curve.columns)},
                                  {"mib", range_json(curve.mib)},
                                  {"residual_range", range_json(curve.residual_range)},
                                  {"residual", residual}});
  }
  return json;
}

}  // namespace moesim
