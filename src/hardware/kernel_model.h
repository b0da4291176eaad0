// The time of one matrix-vector product by shape: a roofline with a learned residual, so that
// shapes which nobody measured have a time as well. Key cpu.kernel_model of a device file.
//
//   seconds = launch + bytes / rate * exp(r),   r = sum of coefficient x feature
//
// after the idea of Tomczak, Lepert and Wiggers (arXiv 1904.11876), here with a roofline as the
// mean and a few features of the shape instead of a graph network. One fit per weight format and
// thread count. Outside the shapes that a fit was made of the residual stays what it is at their
// edge. Left out: the cost of activations, and what else runs on the machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "config/section.h"

namespace moesim {

// Bytes of one row of weights as the kernels hold it: f16 two a weight; q8 and q4 blocks of 32
// weights with one fp16 scale, 34 and 18 bytes, the last block padded. Throws InvariantError for
// another format.
std::uint64_t kernel_row_bytes(const std::string& format, std::size_t columns);
// The formats that have kernels, in the order of messages.
const std::vector<std::string>& kernel_formats();

// The residual of a curve stays within plus and minus this: a factor of 150.
inline constexpr double kMostKernelResidual = 5;

struct KernelShape {
  std::size_t rows = 0;
  std::size_t columns = 0;
};

// What features are made of: x = log2(rows / 1024), y = log2(columns / 1024), z = log2(mib).
struct KernelPlace {
  double mib = 0;  // of weights
  double x = 0;
  double y = 0;
  double z = 0;
};
KernelPlace kernel_place(const std::string& format, const KernelShape& shape);

// A quantity of a shape that the residual may depend on: its name in device files, and its value.
struct KernelFeature {
  std::string_view name;
  double (*value)(double x, double y, double z);
};
// All that there are.
const std::vector<KernelFeature>& kernel_features();
// Its index there. Throws InvariantError for a name that is none.
std::size_t kernel_feature(std::string_view name);

struct ClosedRange {
  double low = 0;
  double high = 0;
  [[nodiscard]] bool contains(double value) const { return value >= low && value <= high; }
};

struct KernelTerm {
  std::size_t feature = 0;  // index in kernel_features()
  double coefficient = 0;
};

// One format with one number of threads.
struct KernelCurve {
  std::string format;
  std::size_t threads = 0;
  double launch_us = 0;
  double rate_gbps = 0;
  // Of the shapes that it was fitted to, and of the residual there.
  ClosedRange rows;
  ClosedRange columns;
  ClosedRange mib;
  ClosedRange residual_range;
  std::vector<KernelTerm> residual;

  [[nodiscard]] double residual_of(const KernelShape& shape) const;
  [[nodiscard]] double seconds(const KernelShape& shape) const;
  [[nodiscard]] bool covers(const KernelShape& shape) const;
};

class KernelModel {
 public:
  // Curves in any order. Throws InvariantError for two of the same format and threads.
  KernelModel() = default;
  explicit KernelModel(std::vector<KernelCurve> curves);

  [[nodiscard]] bool empty() const { return curves_.empty(); }
  [[nodiscard]] bool knows(const std::string& format, std::size_t threads) const;
  // Of one product by `threads` threads, its launch included. REQUIRES: knows(format, threads).
  [[nodiscard]] double seconds(const std::string& format, std::size_t rows, std::size_t columns,
                               std::size_t threads) const;
  // The part of it that a job pays once, whatever its shapes. REQUIRES: knows(format, threads).
  [[nodiscard]] double launch_seconds(const std::string& format, std::size_t threads) const;
  // Whether the shape lies within those that were measured: rows, columns and bytes.
  [[nodiscard]] bool covers(const std::string& format, std::size_t rows, std::size_t columns,
                            std::size_t threads) const;
  // By format, then threads.
  [[nodiscard]] const std::vector<KernelCurve>& curves() const { return curves_; }

 private:
  [[nodiscard]] const KernelCurve* find(const std::string& format, std::size_t threads) const;
  [[nodiscard]] const KernelCurve& require(const std::string& format, std::size_t threads) const;

  std::vector<KernelCurve> curves_;
};

// The value of cpu.kernel_model: {format: [curve, ...]}, threads rising. Throws UserError with file
// and pointer.
KernelModel read_kernel_model(Section section);
// The same as it stands in a device file.
Json kernel_model_json(const KernelModel& model);

}  // namespace moesim
