// Runs all measurements of a calibration on a machine, phase by phase.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "calibration/machine_plan.h"
#include "calibration/machine_probe.h"
#include "calibration/machine_statistics.h"

namespace moesim {

struct ThreadRow {
  std::size_t threads = 1;
  Summary seconds;
};

struct ProductRow {
  WeightFormat format = WeightFormat::kFp16;
  MatrixShape shape;
  std::size_t threads = 1;
  Summary seconds;

  [[nodiscard]] double bytes() const {
    return static_cast<double>(weight_row_bytes(format, shape.columns) * shape.rows);
  }
};

struct ExpertRow {
  WeightFormat format = WeightFormat::kFp16;
  ExpertShape shape;
  std::size_t threads = 1;
  Summary seconds;
};

struct ReadRow {
  ReadCell cell;
  Summary bytes_per_s;
};

struct MachineMeasurements {
  MachineFacts facts;
  std::uint64_t scratch_bytes = 0;
  std::size_t hidden = 0;   // of the small operators
  std::size_t outputs = 0;  // likewise
  std::vector<ThreadRow> streams;
  std::vector<ProductRow> products;
  std::vector<ExpertRow> experts;
  std::vector<ThreadRow> barriers;
  Summary operators_s;
  std::vector<ReadRow> reads;
  // Logarithms of single large reads' times over the median of their own repetition.
  std::vector<double> read_deviations;
  std::vector<double> fault_s;            // per major fault
  std::vector<double> fault_bytes;        // per major fault
  std::size_t touches_without_fault = 0;  // repetitions in which nothing was read
  Summary admit_s;                        // per page
};

struct CalibrationProgress {
  std::string phase;
  double done = 0;    // of all, in [0, 1]
  double left_s = 0;  // by the budgets
};
using ProgressFunction = std::function<void(const CalibrationProgress&)>;

// Throws what the machine throws. `progress` may be empty.
MachineMeasurements measure_machine(MachineProbe& machine, const CalibrationPlan& plan,
                                    const ProgressFunction& progress);

}  // namespace moesim
