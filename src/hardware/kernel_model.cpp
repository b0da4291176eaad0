#include "hardware/kernel_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <tuple>
#include <utility>

#include "core/errors.h"
#include "core/units.h"

namespace moesim {
namespace {

constexpr std::size_t kBlock = 32;  // weights of a block, docs/kernels.md
// Rises from nothing at so many log2 MiB on: where a cache of that size ends.
template <int kLog2Mib>
double above(double /*x*/, double /*y*/, double z) {
  return std::max(0.0, z - kLog2Mib);
}

double bytes_of_weights(const std::string& format, const KernelShape& shape) {
  return static_cast<double>(kernel_row_bytes(format, shape.columns)) *
         static_cast<double>(shape.rows);
}

double mib_of(const std::string& format, const KernelShape& shape) {
  return bytes_of_weights(format, shape) / static_cast<double>(kMiB);
}

KernelPlace place_at(double rows, double columns, double mib) {
  return {mib, std::log2(rows / 1024), std::log2(columns / 1024), std::log2(mib)};
}

double held(double value, const ClosedRange& range) {
  return std::clamp(value, range.low, range.high);
}

}  // namespace

const std::vector<std::string>& kernel_formats() {
  static const std::vector<std::string> kFormats = {"f16", "q8", "q4"};
  return kFormats;
}

std::uint64_t kernel_row_bytes(const std::string& format, std::size_t columns) {
  if (format == "f16") return 2 * std::uint64_t{columns};
  const std::uint64_t blocks = (columns + kBlock - 1) / kBlock;
  if (format == "q8") return 34 * blocks;
  if (format == "q4") return 18 * blocks;
  throw InvariantError("no kernel has weights of the format \"" + format + "\"");
}

const std::vector<KernelFeature>& kernel_features() {
  static const std::vector<KernelFeature> kFeatures = {
      {"one", [](double, double, double) { return 1.0; }},
      {"rows", [](double x, double, double) { return x; }},
      {"columns", [](double, double y, double) { return y; }},
      {"rows_squared", [](double x, double, double) { return x * x; }},
      {"columns_squared", [](double, double y, double) { return y * y; }},
      {"rows_times_columns", [](double x, double y, double) { return x * y; }},
      // what each row costs beside its bytes: the sum over the lanes of a vector
      {"narrow", [](double, double y, double) { return std::exp2(-2 - y); }},
      {"above_quarter_mib", above<-2>},
      {"above_1_mib", above<0>},
      {"above_4_mib", above<2>},
      {"above_16_mib", above<4>},
      {"above_64_mib", above<6>}};
  return kFeatures;
}

std::size_t kernel_feature(std::string_view name) {
  const std::vector<KernelFeature>& features = kernel_features();
  for (std::size_t i = 0; i < features.size(); ++i) {
    if (features[i].name == name) return i;
  }
  throw InvariantError("no feature of kernels has the name \"" + std::string(name) + "\"");
}

KernelPlace kernel_place(const std::string& format, const KernelShape& shape) {
  return place_at(static_cast<double>(shape.rows), static_cast<double>(shape.columns),
                  mib_of(format, shape));
}

double KernelCurve::residual_of(const KernelShape& shape) const {
  const KernelPlace place =
      place_at(held(static_cast<double>(shape.rows), rows),
               held(static_cast<double>(shape.columns), columns), held(mib_of(format, shape), mib));
  double sum = 0;
  for (const KernelTerm& term : residual) {
    sum += term.coefficient * kernel_features()[term.feature].value(place.x, place.y, place.z);
  }
  return held(sum, residual_range);
}

double KernelCurve::seconds(const KernelShape& shape) const {
  return launch_us * 1e-6 +
         bytes_of_weights(format, shape) / (rate_gbps * 1e9) * std::exp(residual_of(shape));
}

bool KernelCurve::covers(const KernelShape& shape) const {
  return rows.contains(static_cast<double>(shape.rows)) &&
         columns.contains(static_cast<double>(shape.columns)) &&
         mib.contains(mib_of(format, shape));
}

KernelModel::KernelModel(std::vector<KernelCurve> curves) : curves_(std::move(curves)) {
  const auto key = [](const KernelCurve& curve) { return std::tie(curve.format, curve.threads); };
  std::sort(curves_.begin(), curves_.end(),
            [&](const KernelCurve& a, const KernelCurve& b) { return key(a) < key(b); });
  for (std::size_t i = 1; i < curves_.size(); ++i) {
    if (key(curves_[i - 1]) == key(curves_[i])) {
      throw InvariantError("two kernel curves of one format and number of threads");
    }
  }
}

const KernelCurve* KernelModel::find(const std::string& format, std::size_t threads) const {
  for (const KernelCurve& curve : curves_) {
    if (curve.threads == threads && curve.format == format) return &curve;
  }
  return nullptr;
}

const KernelCurve& KernelModel::require(const std::string& format, std::size_t threads) const {
  if (const KernelCurve* curve = find(format, threads)) return *curve;
  throw InvariantError(
      fmt::format("the kernel model does not know {} with {} threads", format, threads));
}

bool KernelModel::knows(const std::string& format, std::size_t threads) const {
  return find(format, threads) != nullptr;
}

double KernelModel::seconds(const std::string& format, std::size_t rows, std::size_t columns,
                            std::size_t threads) const {
  return require(format, threads).seconds({rows, columns});
}

double KernelModel::launch_seconds(const std::string& format, std::size_t threads) const {
  return require(format, threads).launch_us * 1e-6;
}

bool KernelModel::covers(const std::string& format, std::size_t rows, std::size_t columns,
                         std::size_t threads) const {
  return require(format, threads).covers({rows, columns});
}

}  // namespace moesim
