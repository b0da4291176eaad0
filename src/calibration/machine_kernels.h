// Thread count, kernel rates and kernel model of a device file out of measured products.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "calibration/kernel_fit.h"
#include "calibration/machine_measure.h"

namespace moesim {

// How device files call a format of the kernels: "f16", "q8", "q4".
std::string device_format(WeightFormat format);

struct FormatRate {
  double gbps = 0;    // median over the shapes that experts have
  double spread = 0;  // interquartile range over the shapes / median
  std::size_t shapes = 0;
  std::size_t repetitions = 0;  // of a shape, at least
};

struct ExpertCheck {
  ExpertRow measured;
  double model_s = 0;
  [[nodiscard]] double error() const { return model_s / measured.seconds.mean - 1; }
};

struct MachineKernels {
  std::size_t threads = 1;
  std::map<std::string, FormatRate> rates;  // at `threads`, by format
  // {threads, GB/s}: f16, geometric mean over the same shapes.
  std::vector<std::pair<double, double>> scaling;
  KernelFit fit;
  std::vector<ExpertCheck> experts;
  double expert_error = 0;  // median of the absolute errors of `experts`
};

// The smallest number of threads that comes within 2 % of the best over all formats and the shapes
// that experts have. REQUIRES: products with such shapes.
std::size_t best_threads(const std::vector<ProductRow>& products);

// UserError where there are too few shapes to fit.
MachineKernels fit_machine_kernels(const MachineMeasurements& measured);

}  // namespace moesim
