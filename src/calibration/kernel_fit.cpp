#include "calibration/kernel_fit.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>
#include <utility>

#include "calibration/kernel_curve_fit.h"
#include "core/errors.h"

namespace moesim {
namespace {

// Launch and rate from three, and one to hold out.
constexpr std::size_t kFewestShapes = 4;

using Extent = std::pair<std::size_t, std::size_t>;                        // rows, columns
using ShapeTimes = std::map<Extent, std::vector<double>>;                  // log seconds
using Groups = std::map<std::pair<std::string, std::size_t>, ShapeTimes>;  // by format, threads

// Log times, one entry per sample.
struct Predictions {
  std::vector<double> measured;
  std::vector<double> model;
  std::vector<double> constant_rate;
  std::vector<double> roofline;

  void append(const Predictions& other) {
    const auto join = [](std::vector<double>& to, const std::vector<double>& from) {
      to.insert(to.end(), from.begin(), from.end());
    };
    join(measured, other.measured);
    join(model, other.model);
    join(constant_rate, other.constant_rate);
    join(roofline, other.roofline);
  }
};

void check_sample(const KernelSample& sample, std::size_t index) {
  const auto refuse = [&](const std::string& message) {
    throw user_error(fmt::format("kernel sample {}", index), message);
  };
  const std::vector<std::string>& formats = kernel_formats();
  if (std::find(formats.begin(), formats.end(), sample.format) == formats.end()) {
    refuse(fmt::format("expected one of {} as format, got \"{}\"", fmt::join(formats, ", "),
                       sample.format));
  }
  if (sample.rows == 0 || sample.columns == 0 || sample.threads == 0) {
    refuse(fmt::format("expected rows, columns and threads above 0, got {}, {} and {}", sample.rows,
                       sample.columns, sample.threads));
  }
  if (!(sample.seconds > 0) || !std::isfinite(sample.seconds)) {
    refuse(fmt::format("expected a time above 0 s, got {}", sample.seconds));
  }
}

Groups grouped(const std::vector<KernelSample>& samples) {
  if (samples.empty()) throw user_error("kernel samples", "expected some, got none");
  Groups groups;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const KernelSample& sample = samples[i];
    check_sample(sample, i);
    groups[{sample.format, sample.threads}][{sample.rows, sample.columns}].push_back(
        std::log(sample.seconds));
  }
  for (auto& [of, shapes] : groups) {
    for (auto& shape : shapes) std::sort(shape.second.begin(), shape.second.end());
    if (shapes.size() >= kFewestShapes) continue;
    throw user_error("kernel samples",
                     fmt::format("expected at least {} shapes (rows x columns) of {} with {} "
                                 "threads, got {}",
                                 kFewestShapes, of.first, of.second, shapes.size()));
  }
  return groups;
}

// Rising bytes, so that the parts that choose features (kernel_curve_fit.h) all span the sizes.
std::vector<ShapePoint> points_of(const std::string& format, const ShapeTimes& shapes) {
  std::vector<ShapePoint> points;
  points.reserve(shapes.size());
  for (const auto& [extent, times] : shapes) {
    ShapePoint point{{extent.first, extent.second}, 0, 0};
    point.bytes = static_cast<double>(kernel_row_bytes(format, extent.second)) *
                  static_cast<double>(extent.first);
    point.log_seconds =
        std::accumulate(times.begin(), times.end(), 0.0) / static_cast<double>(times.size());
    points.push_back(point);
  }
  std::stable_sort(points.begin(), points.end(),
                   [](const ShapePoint& a, const ShapePoint& b) { return a.bytes < b.bytes; });
  return points;
}

// As robust as the other fits.
double median_log_rate(const std::vector<ShapePoint>& points) {
  std::vector<double> rates;
  rates.reserve(points.size());
  for (const ShapePoint& point : points) {
    rates.push_back(std::log(point.bytes) - point.log_seconds);
  }
  std::sort(rates.begin(), rates.end());
  return (rates[(rates.size() - 1) / 2] + rates[rates.size() / 2]) / 2;
}

Predictions held_out(const CurveOf& of, const ShapeTimes& shapes,
                     const std::vector<ShapePoint>& points) {
  Predictions predictions;
  for (std::size_t out = 0; out < points.size(); ++out) {
    std::vector<ShapePoint> others = points;
    others.erase(others.begin() + static_cast<std::ptrdiff_t>(out));
    const KernelShape& shape = points[out].shape;
    const double model = std::log(fit_best_kernel_curve(of, others).seconds(shape));
    const double roofline = std::log(fit_kernel_curve(of, others, {}).seconds(shape));
    const double constant = std::log(points[out].bytes) - median_log_rate(others);
    for (const double measured : shapes.at({shape.rows, shape.columns})) {
      predictions.measured.push_back(measured);
      predictions.model.push_back(model);
      predictions.roofline.push_back(roofline);
      predictions.constant_rate.push_back(constant);
    }
  }
  return predictions;
}

// Ranks from 0; equal values share the mean of theirs.
std::vector<double> ranks_of(const std::vector<double>& values) {
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return values[a] < values[b]; });
  std::vector<double> ranks(values.size());
  for (std::size_t first = 0; first < order.size();) {
    std::size_t end = first + 1;
    while (end < order.size() && values[order[end]] == values[order[first]]) ++end;
    for (std::size_t i = first; i < end; ++i) {
      ranks[order[i]] = static_cast<double>(first + end - 1) / 2;
    }
    first = end;
  }
  return ranks;
}

double spearman(const std::vector<double>& a, const std::vector<double>& b) {
  const std::vector<double> ranks_a = ranks_of(a);
  const std::vector<double> ranks_b = ranks_of(b);
  const double mean = (static_cast<double>(a.size()) - 1) / 2;
  double both = 0;
  double of_a = 0;
  double of_b = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    both += (ranks_a[i] - mean) * (ranks_b[i] - mean);
    of_a += (ranks_a[i] - mean) * (ranks_a[i] - mean);
    of_b += (ranks_b[i] - mean) * (ranks_b[i] - mean);
  }
  return of_a > 0 && of_b > 0 ? both / std::sqrt(of_a * of_b) : 0;
}

KernelErrors errors_of(const std::vector<double>& measured, const std::vector<double>& predicted) {
  const std::size_t count = measured.size();
  std::vector<double> relative(count);
  double squares = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const double error = predicted[i] - measured[i];
    squares += error * error;
    relative[i] = std::abs(std::expm1(error));
  }
  std::sort(relative.begin(), relative.end());
  KernelErrors errors;
  errors.log_rmse = std::sqrt(squares / static_cast<double>(count));
  errors.median_ape = (relative[(count - 1) / 2] + relative[count / 2]) / 2;
  errors.p95_ape = relative[(count * 95 + 99) / 100 - 1];  // nearest rank
  errors.spearman = spearman(measured, predicted);
  return errors;
}

KernelScores scores_of(const Predictions& predictions, std::size_t shapes) {
  return {shapes, predictions.measured.size(), errors_of(predictions.measured, predictions.model),
          errors_of(predictions.measured, predictions.constant_rate),
          errors_of(predictions.measured, predictions.roofline)};
}

Json errors_json(const KernelErrors& errors) {
  return {{"log_rmse", errors.log_rmse},
          {"median_ape", errors.median_ape},
          {"p95_ape", errors.p95_ape},
          {"spearman", errors.spearman}};
}

Json scores_json(const KernelScores& scores) {
  return {{"shapes", scores.shapes},
          {"samples", scores.samples},
          {"model", errors_json(scores.model)},
          {"constant_rate", errors_json(scores.constant_rate)},
          {"roofline", errors_json(scores.roofline)}};
}

}  // namespace

KernelFit fit_kernel_model(const std::vector<KernelSample>& samples) {
  KernelFit fit;
  std::vector<KernelCurve> curves;
  Predictions all;
  std::set<Extent> extents;
  for (const auto& [of, shapes] : grouped(samples)) {
    const CurveOf curve{of.first, of.second};
    const std::vector<ShapePoint> points = points_of(curve.format, shapes);
    curves.push_back(fit_best_kernel_curve(curve, points));
    const Predictions predictions = held_out(curve, shapes, points);
    fit.quality.curves.push_back(
        {curve.format, curve.threads, scores_of(predictions, points.size())});
    all.append(predictions);
    for (const auto& shape : shapes) extents.insert(shape.first);
  }
  fit.model = KernelModel(std::move(curves));
  fit.quality.all = scores_of(all, extents.size());
  return fit;
}

Json kernel_quality_json(const KernelFitQuality& quality) {
  Json curves = Json::array();
  for (const KernelCurveQuality& curve : quality.curves) {
    Json entry = {{"format", curve.format}, {"threads", curve.threads}};
    entry.update(scores_json(curve.scores));
    curves.push_back(std::move(entry));
  }
  return {{"all", scores_json(quality.all)}, {"curves", std::move(curves)}};
}

}  // namespace moesim
