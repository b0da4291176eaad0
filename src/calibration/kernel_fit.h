// From measured times of products to the kernel model of a device file, and how well it predicts
// shapes that it was not fitted to. Knows no kernels: samples are numbers.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "hardware/kernel_model.h"

namespace moesim {

struct KernelSample {
  std::string format;  // one of kernel_formats()
  std::size_t rows = 0;
  std::size_t columns = 0;
  std::size_t threads = 0;
  double seconds = 0;
};

// Errors of predicted times. `spearman`: rank correlation, 0 where one side is all equal.
struct KernelErrors {
  double log_rmse = 0;    // root mean square of log(predicted / measured)
  double median_ape = 0;  // absolute relative error
  double p95_ape = 0;
  double spearman = 0;
};

// Each shape is predicted by fits that never saw it, all its samples held out together: by the
// model, by one rate per curve (bytes / rate), and by the roofline (launch + bytes / rate). Each is
// fitted in log time, the choice of features included.
struct KernelScores {
  std::size_t shapes = 0;
  std::size_t samples = 0;
  KernelErrors model;
  KernelErrors constant_rate;
  KernelErrors roofline;
};

struct KernelCurveQuality {
  std::string format;
  std::size_t threads = 0;
  KernelScores scores;
};

struct KernelFitQuality {
  KernelScores all;  // `shapes`: of every format and thread count, counted once
  std::vector<KernelCurveQuality> curves;  // by format, then threads
};

struct KernelFit {
  KernelModel model;  // fitted to all samples
  KernelFitQuality quality;
};

// Needs four shapes or more for every format and thread count that there are samples of; twelve and
// more, spread over the sizes that runs will have, are of use. Deterministic, and independent of
// the order of the samples but for rounding. Throws UserError for a sample that is none and for
// fewer shapes.
KernelFit fit_kernel_model(const std::vector<KernelSample>& samples);

// {"all": {...}, "curves": [...]}: for reports, and for the key `calibration` of a device file.
Json kernel_quality_json(const KernelFitQuality& quality);

}  // namespace moesim
