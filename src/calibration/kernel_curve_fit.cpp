#include "calibration/kernel_curve_fit.h"

#include <fmt/format.h>

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <limits>

namespace moesim {
namespace {

// Variance of the noise over that which coefficients are expected to have: 3 % of noise, 0.3 per
// doubling of a feature.
constexpr double kRidge = 0.01;
constexpr std::size_t kParts = 5;
// On a shared machine some times are of something else: beyond 5 % an error counts in proportion
// (Huber's loss), so that they do not bend the curve.
constexpr double kOutlier = 0.05;
constexpr double kWorthIt = 0.95;     // of the loss, for a larger set of features
constexpr double kGoodEnough = 1e-6;  // 0.1 %, squared: a loss that no set needs to better

double loss_of(double error) {
  const double size = std::abs(error);
  return size <= kOutlier ? size * size : kOutlier * (2 * size - kOutlier);
}

// Of an error in a least-squares step that lowers the loss.
double weight_of(double error) { return kOutlier / std::max(kOutlier, std::abs(error)); }

double six_digits(double value) { return std::stod(fmt::format("{:.6g}", value)); }

// log(launch + bytes x exp(design x coefficients)), fitted to log times for a given launch time.
class LogRegression {
 public:
  LogRegression(const CurveOf& of, std::span<const ShapePoint> points,
                const std::vector<std::size_t>& features);

  struct Solution {
    double launch = 0;  // seconds
    Eigen::VectorXd coefficients;
    double objective = std::numeric_limits<double>::infinity();
  };
  [[nodiscard]] Solution solve() const;

 private:
  [[nodiscard]] Solution solve_for(double launch, Eigen::VectorXd coefficients) const;
  [[nodiscard]] double objective(double launch, const Eigen::VectorXd& coefficients) const;
  [[nodiscard]] Eigen::VectorXd step(double launch, const Eigen::VectorXd& coefficients) const;

  Eigen::MatrixXd design_;  // [points x (1 + features)], the first column of ones
  Eigen::ArrayXd bytes_;    // [points]
  Eigen::ArrayXd log_seconds_;
  Eigen::VectorXd ridge_;  // [1 + features], nothing for the constant
};

// The features of a shape inside the hull of the points, where nothing is held.
LogRegression::LogRegression(const CurveOf& of, std::span<const ShapePoint> points,
                             const std::vector<std::size_t>& features)
    : design_(points.size(), 1 + features.size()),
      bytes_(points.size()),
      log_seconds_(points.size()),
      ridge_(Eigen::VectorXd::Constant(static_cast<Eigen::Index>(1 + features.size()), kRidge)) {
  ridge_[0] = 0;
  for (std::size_t i = 0; i < points.size(); ++i) {
    const auto row = static_cast<Eigen::Index>(i);
    bytes_[row] = points[i].bytes;
    log_seconds_[row] = points[i].log_seconds;
    const KernelPlace place = kernel_place(of.format, points[i].shape);
    design_(row, 0) = 1;
    for (std::size_t j = 0; j < features.size(); ++j) {
      design_(row, static_cast<Eigen::Index>(1 + j)) =
          kernel_features()[features[j]].value(place.x, place.y, place.z);
    }
  }
}

double LogRegression::objective(double launch, const Eigen::VectorXd& coefficients) const {
  const Eigen::ArrayXd time = launch + bytes_ * (design_ * coefficients).array().exp();
  const double penalty = (ridge_.array() * coefficients.array().square()).sum();
  return (log_seconds_ - time.log()).unaryExpr(&loss_of).sum() + penalty;
}

// Gauss-Newton: the derivative of the log of a time is the share of it that the launch is not.
Eigen::VectorXd LogRegression::step(double launch, const Eigen::VectorXd& coefficients) const {
  const Eigen::ArrayXd stream = bytes_ * (design_ * coefficients).array().exp();
  const Eigen::ArrayXd time = launch + stream;
  const Eigen::MatrixXd jacobian = (stream / time).matrix().asDiagonal() * design_;
  const Eigen::VectorXd error = (log_seconds_ - time.log()).matrix();
  const Eigen::MatrixXd weighted = error.unaryExpr(&weight_of).asDiagonal() * jacobian;
  Eigen::MatrixXd normal = jacobian.transpose() * weighted;
  normal.diagonal() += ridge_;
  const Eigen::VectorXd ridge_slope = (ridge_.array() * coefficients.array()).matrix();
  return normal.ldlt().solve(weighted.transpose() * error - ridge_slope);
}

LogRegression::Solution LogRegression::solve_for(double launch,
                                                 Eigen::VectorXd coefficients) const {
  constexpr int kMostSteps = 16;
  constexpr int kMostHalvings = 8;
  constexpr double kStill = 1e-6;
  double now = objective(launch, coefficients);
  for (int i = 0; i < kMostSteps; ++i) {
    Eigen::VectorXd change = step(launch, coefficients);
    double next = objective(launch, coefficients + change);
    for (int halving = 0; halving < kMostHalvings && !(next <= now); ++halving) {
      change /= 2;
      next = objective(launch, coefficients + change);
    }
    if (!(next <= now)) break;
    coefficients += change;
    now = next;
    if (change.cwiseAbs().maxCoeff() < kStill) break;
  }
  return {launch, std::move(coefficients), now};
}

// The launch time is less than the shortest time. Shares of that first, then the best between the
// neighbours of the best.
LogRegression::Solution LogRegression::solve() const {
  constexpr int kShares = 10;
  constexpr int kSections = 8;
  constexpr double kMostShare = 0.98;
  constexpr double kGolden = 0.6180339887498949;
  const double shortest = std::exp(log_seconds_.minCoeff());
  Eigen::VectorXd start = Eigen::VectorXd::Zero(design_.cols());
  start[0] = (log_seconds_ - bytes_.log()).mean();
  Solution best;
  for (int i = 0; i <= kShares; ++i) {
    const Solution found = solve_for(shortest * kMostShare * i / kShares, start);
    start = found.coefficients;
    if (found.objective < best.objective) best = found;
  }
  const double width = shortest * kMostShare / kShares;
  double low = std::max(0.0, best.launch - width);
  double high = std::min(shortest * kMostShare, best.launch + width);
  for (int i = 0; i < kSections; ++i) {
    const double left = high - kGolden * (high - low);
    const double right = low + kGolden * (high - low);
    const Solution at_left = solve_for(left, best.coefficients);
    const Solution at_right = solve_for(right, best.coefficients);
    const bool goes_left = at_left.objective <= at_right.objective;
    const Solution& found = goes_left ? at_left : at_right;
    if (found.objective < best.objective) best = found;
    (goes_left ? high : low) = goes_left ? right : left;
  }
  return best;
}

ClosedRange grown(ClosedRange range, double value) {
  return {std::min(range.low, value), std::max(range.high, value)};
}

KernelCurve empty_curve(const CurveOf& of, std::span<const ShapePoint> points) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  constexpr ClosedRange kNothing{kInfinity, -kInfinity};
  KernelCurve curve;
  curve.format = of.format;
  curve.threads = of.threads;
  curve.rows = curve.columns = curve.mib = kNothing;
  for (const ShapePoint& point : points) {
    curve.rows = grown(curve.rows, static_cast<double>(point.shape.rows));
    curve.columns = grown(curve.columns, static_cast<double>(point.shape.columns));
    curve.mib = grown(curve.mib, kernel_place(of.format, point.shape).mib);
  }
  return curve;
}

void set_residual_range(KernelCurve& curve, std::span<const ShapePoint> points) {
  curve.residual_range = {-kMostKernelResidual, kMostKernelResidual};
  ClosedRange seen{kMostKernelResidual, -kMostKernelResidual};
  for (const ShapePoint& point : points) seen = grown(seen, curve.residual_of(point.shape));
  curve.residual_range = seen;
}

KernelCurve roofline_curve(const CurveOf& of, std::span<const ShapePoint> points) {
  const LogRegression::Solution found = LogRegression(of, points, {}).solve();
  KernelCurve curve = empty_curve(of, points);
  curve.rate_gbps = six_digits(std::exp(-found.coefficients[0]) / 1e9);
  curve.launch_us = six_digits(found.launch * 1e6);
  return curve;
}

// With the residual over a given rate, and a launch time of its own.
KernelCurve residual_curve(const CurveOf& of, std::span<const ShapePoint> points,
                           const std::vector<std::size_t>& features, double rate_gbps) {
  const LogRegression::Solution found = LogRegression(of, points, features).solve();
  KernelCurve curve = empty_curve(of, points);
  curve.rate_gbps = rate_gbps;
  curve.launch_us = six_digits(found.launch * 1e6);
  const double constant = found.coefficients[0] + std::log(rate_gbps * 1e9);
  curve.residual.push_back({kernel_feature("one"), six_digits(constant)});
  for (std::size_t j = 0; j < features.size(); ++j) {
    const double coefficient = six_digits(found.coefficients[static_cast<Eigen::Index>(1 + j)]);
    if (coefficient != 0) curve.residual.push_back({features[j], coefficient});
  }
  set_residual_range(curve, points);
  return curve;
}

// Mean loss at points that the curve was not fitted to.
double loss_between_parts(const CurveOf& of, std::span<const ShapePoint> points,
                          const std::vector<std::size_t>& features, double rate_gbps) {
  const std::size_t parts = std::min(kParts, points.size());
  double sum = 0;
  for (std::size_t part = 0; part < parts; ++part) {
    std::vector<ShapePoint> others;
    others.reserve(points.size());
    for (std::size_t i = 0; i < points.size(); ++i) {
      if (i % parts != part) others.push_back(points[i]);
    }
    const KernelCurve curve = features.empty() ? roofline_curve(of, others)
                                               : residual_curve(of, others, features, rate_gbps);
    for (std::size_t i = part; i < points.size(); i += parts) {
      sum += loss_of(points[i].log_seconds - std::log(curve.seconds(points[i].shape)));
    }
  }
  return sum / static_cast<double>(points.size());
}

}  // namespace

const std::vector<std::vector<std::size_t>>& kernel_feature_sets() {
  static const std::vector<std::vector<std::size_t>> kSets = [] {
    const std::vector<std::vector<std::string_view>> names = {
        {},
        {"narrow"},
        {"rows", "columns"},
        {"narrow", "above_1_mib", "above_4_mib", "above_16_mib"},
        {"rows", "columns", "rows_squared", "columns_squared", "rows_times_columns"},
        {"narrow", "above_quarter_mib", "above_1_mib", "above_4_mib", "above_16_mib",
         "above_64_mib"},
        {"rows", "columns", "narrow", "above_1_mib", "above_4_mib", "above_16_mib",
         "above_64_mib"}};
    std::vector<std::vector<std::size_t>> sets(names.size());
    for (std::size_t set = 0; set < names.size(); ++set) {
      for (const std::string_view name : names[set]) {
        sets[set].push_back(kernel_feature(name));
      }
    }
    return sets;
  }();
  return kSets;
}

KernelCurve fit_kernel_curve(const CurveOf& of, std::span<const ShapePoint> points,
                             const std::vector<std::size_t>& features) {
  KernelCurve roofline = roofline_curve(of, points);
  return features.empty() ? roofline : residual_curve(of, points, features, roofline.rate_gbps);
}

KernelCurve fit_best_kernel_curve(const CurveOf& of, std::span<const ShapePoint> points) {
  // Launch and constant beside the coefficients, and one point to spare in what is left when a part
  // of the points is held out.
  const std::size_t fitted_points = points.size() - (points.size() + kParts - 1) / kParts;
  KernelCurve roofline = roofline_curve(of, points);
  const std::vector<std::size_t>* best = nullptr;
  double least = std::numeric_limits<double>::infinity();
  for (const std::vector<std::size_t>& features : kernel_feature_sets()) {
    if (!features.empty() && features.size() + 3 > fitted_points) continue;
    if (least < kGoodEnough) break;
    const double loss = loss_between_parts(of, points, features, roofline.rate_gbps);
    if (best != nullptr && loss >= kWorthIt * least) continue;
    best = &features;
    least = loss;
  }
  return best->empty() ? roofline : residual_curve(of, points, *best, roofline.rate_gbps);
}

}  // namespace moesim
