// What a calibration measures and how much time each part has.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "calibration/machine_probe.h"

namespace moesim {

struct MatrixShape {
  std::size_t rows = 0;
  std::size_t columns = 0;
  // Neither a router nor a head: what stands for the kernel rate of a format.
  [[nodiscard]] bool is_expert_like() const {
    return rows >= 512 && columns >= 512 && rows * columns >= (std::size_t{1} << 20) &&
           rows * columns <= (std::size_t{1} << 24);
  }
};

struct ExpertShape {
  std::size_t hidden = 0;
  std::size_t intermediate = 0;
};

// Seconds of each phase.
struct PhaseBudgets {
  double kernels = 0;
  double overheads = 0;
  double scratch = 0;
  double flash = 0;
  double faults = 0;
  double admission = 0;
  double fit = 0;  // expected, not limited

  [[nodiscard]] double total() const {
    return kernels + overheads + scratch + flash + faults + admission + fit;
  }
};

struct CalibrationPlan {
  PhaseBudgets budgets;
  std::vector<MatrixShape> shapes;
  std::vector<ExpertShape> experts;
  std::vector<std::uint64_t> read_sizes;  // rising
  std::vector<std::size_t> lanes;         // rising
  std::vector<std::size_t> depths;        // of io_uring, rising
  std::vector<std::size_t> sequential_depths;
  std::size_t hidden = 2048;  // of the layer whose small operators are measured
  std::size_t outputs = 8;    // experts that it sums up
  std::size_t least_rounds = 5;
};

// `quick`: fewer shapes and cells. `budget_s`: seconds of all phases together; 0 for the default.
CalibrationPlan calibration_plan(bool quick, double budget_s);

// 1, 2, 4, ... and `cores`.
std::vector<std::size_t> thread_counts(std::size_t cores);

// The cells of the plan that a file of so many bytes allows; those of io_uring where there is one.
std::vector<ReadCell> read_cells(const CalibrationPlan& plan, std::uint64_t scratch_bytes,
                                 bool uring);

}  // namespace moesim
