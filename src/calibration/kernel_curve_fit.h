// Fits one curve of the kernel model (hardware/kernel_model.h) to measured shapes: launch time,
// rate and a ridge regression of the residual, all in log time, because a relative error is what
// counts.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "hardware/kernel_model.h"

namespace moesim {

// All samples of a shape as one point, so that a shape that was measured more often weighs no more.
struct ShapePoint {
  KernelShape shape;
  double bytes = 0;        // of weights
  double log_seconds = 0;  // mean over its samples
};

struct CurveOf {
  std::string format;
  std::size_t threads = 0;
};

// Sets of features that a residual may have, the smallest first; the first is empty: the roofline
// alone. Indices of kernel_features(), without the constant, which every other set has besides.
const std::vector<std::vector<std::size_t>>& kernel_feature_sets();

// The best curve with these features. Deterministic; values are rounded to six digits, as a device
// file has them. REQUIRES: at least two points.
KernelCurve fit_kernel_curve(const CurveOf& of, std::span<const ShapePoint> points,
                             const std::vector<std::size_t>& features);

// The curve with the set of features that predicts shapes best which it was not fitted to: five
// parts, each predicted from the others. The loss of a larger set
// has to be less by 5 %. REQUIRES: at least
// three points.
KernelCurve fit_best_kernel_curve(const CurveOf& of, std::span<const ShapePoint> points);

}  // namespace moesim
