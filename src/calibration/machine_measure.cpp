#include "calibration/machine_measure.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace moesim {
namespace {

// Where the calibration is, for whoever watches.
class Watch {
 public:
  Watch(MachineProbe& machine, double total_s, const ProgressFunction& progress)
      : machine_(machine), total_s_(total_s), progress_(progress) {}

  void begin(const std::string& phase, double budget_s) {
    finished_s_ += budget_s_;
    phase_ = phase;
    budget_s_ = budget_s;
    start_s_ = machine_.now_s();
    tick();
  }
  void tick() const {
    if (!progress_) return;
    const double spent = std::min(machine_.now_s() - start_s_, budget_s_);
    const double done = finished_s_ + spent;
    progress_({phase_, total_s_ > 0 ? done / total_s_ : 1.0, total_s_ - done});
  }

 private:
  MachineProbe& machine_;
  double total_s_;
  const ProgressFunction& progress_;
  std::string phase_;
  double budget_s_ = 0;
  double finished_s_ = 0;
  double start_s_ = 0;
};

using Measurements = std::vector<std::function<double()>>;

class Calibration {
 public:
  Calibration(MachineProbe& machine, const CalibrationPlan& plan, const ProgressFunction& progress)
      : machine_(machine), plan_(plan), watch_(machine, plan.budgets.total(), progress) {}

  MachineMeasurements run() {
    result_.facts = machine_.facts();
    result_.hidden = plan_.hidden;
    result_.outputs = plan_.outputs;
    threads_ = thread_counts(result_.facts.cores);
    kernels();
    overheads();
    watch_.begin("scratch file", plan_.budgets.scratch);
    result_.scratch_bytes =
        machine_.write_scratch(plan_.budgets.scratch, [this] { watch_.tick(); });
    reads();
    faults();
    admission();
    watch_.begin("fit", plan_.budgets.fit);
    return std::move(result_);
  }

 private:
  std::vector<std::vector<double>> measure(const Measurements& measurements, double budget_s) {
    TurnLimits limits;
    limits.budget_s = budget_s;
    limits.least_rounds = plan_.least_rounds;
    return measure_in_turns(
        measurements, limits, [this] { return machine_.now_s(); }, [this] { watch_.tick(); });
  }

  void kernels();
  void overheads();
  void reads();
  void faults();
  void admission();
  void deviations(const ReadCell& cell, const std::vector<double>& read_s);

  MachineProbe& machine_;
  const CalibrationPlan& plan_;
  Watch watch_;
  MachineMeasurements result_;
  std::vector<std::size_t> threads_;
};

// Streaming reads, products and experts in one phase: they are compared with each other.
void Calibration::kernels() {
  watch_.begin("memory and kernels", plan_.budgets.kernels);
  Measurements measurements;
  for (const WeightFormat format : kWeightFormats) {
    for (const std::size_t threads : threads_) {
      for (const MatrixShape& shape : plan_.shapes) {
        ProductRow row{format, shape, threads, {}};
        if (row.bytes() > static_cast<double>(result_.facts.largest_matrix)) continue;
        result_.products.push_back(row);
      }
      for (const ExpertShape& shape : plan_.experts) {
        result_.experts.push_back({format, shape, threads, {}});
      }
    }
  }
  measurements.reserve(threads_.size() + result_.products.size() + result_.experts.size());
  for (const std::size_t threads : threads_) {
    result_.streams.push_back({threads, {}});
    measurements.emplace_back([this, threads] { return machine_.stream_s(threads); });
  }
  for (const ProductRow& row : result_.products) {
    measurements.emplace_back([this, row] {
      return machine_.product_s(row.format, row.shape.rows, row.shape.columns, row.threads);
    });
  }
  for (const ExpertRow& row : result_.experts) {
    measurements.emplace_back([this, row] {
      return machine_.expert_s(row.format, row.shape.hidden, row.shape.intermediate, row.threads);
    });
  }
  const auto samples = measure(measurements, plan_.budgets.kernels);
  std::size_t next = 0;
  for (ThreadRow& row : result_.streams) row.seconds = summarise(samples[next++]);
  for (ProductRow& row : result_.products) row.seconds = summarise(samples[next++]);
  for (ExpertRow& row : result_.experts) row.seconds = summarise(samples[next++]);
}

void Calibration::overheads() {
  watch_.begin("overheads", plan_.budgets.overheads);
  Measurements measurements;
  measurements.reserve(threads_.size() + 1);
  for (const std::size_t threads : threads_) {
    measurements.emplace_back([this, threads] { return machine_.barrier_s(threads); });
  }
  measurements.emplace_back([this] { return machine_.operators_s(plan_.hidden, plan_.outputs); });
  const auto samples = measure(measurements, plan_.budgets.overheads);
  result_.barriers.reserve(threads_.size());
  for (std::size_t i = 0; i < threads_.size(); ++i) {
    result_.barriers.push_back({threads_[i], summarise(samples[i])});
  }
  result_.operators_s = summarise(samples.back());
}

// Single reads scatter around the median of their own repetition: what drifts slowly is not noise
// of the device.
void Calibration::deviations(const ReadCell& cell, const std::vector<double>& read_s) {
  constexpr std::uint64_t kLarge = std::uint64_t{256} << 10;
  constexpr std::size_t kFew = 4;
  const bool counts = cell.method == ReadMethod::kLanes && !cell.sequential && cell.depth == 1 &&
                      cell.read_bytes >= kLarge;
  if (!counts || read_s.size() < kFew) return;
  const double median = quantile(read_s, 0.5);
  if (median <= 0) return;
  for (const double seconds : read_s) {
    if (seconds > 0) result_.read_deviations.push_back(std::log(seconds / median));
  }
}

void Calibration::reads() {
  constexpr double kLongestSlice = 0.25;
  watch_.begin("flash", plan_.budgets.flash);
  const auto cells = read_cells(plan_, result_.scratch_bytes, result_.facts.uring);
  const auto rounds = static_cast<double>(cells.size() * plan_.least_rounds);
  const double slice = std::min(kLongestSlice, plan_.budgets.flash / std::max(rounds, 1.0));
  Measurements measurements;
  measurements.reserve(cells.size());
  for (const ReadCell& cell : cells) {
    measurements.emplace_back([this, cell, slice] {
      const ReadSample sample = machine_.read(cell, slice);
      deviations(cell, sample.read_s);
      return sample.bytes_per_s;
    });
  }
  const auto samples = measure(measurements, plan_.budgets.flash);
  result_.reads.reserve(cells.size());
  for (std::size_t i = 0; i < cells.size(); ++i) {
    const Summary rate = summarise(samples[i]);
    // 0: the file was too short for a queue of that depth.
    if (rate.median > 0) result_.reads.push_back({cells[i], rate});
  }
}

void Calibration::faults() {
  constexpr std::uint64_t kExpert = std::uint64_t{8} << 20;
  watch_.begin("page faults", plan_.budgets.faults);
  const std::uint64_t bytes = std::min(kExpert, result_.scratch_bytes / 2);
  const Measurements once{[this, bytes] {
    const FaultSample sample = machine_.fault(bytes);
    if (sample.faults == 0) {
      ++result_.touches_without_fault;
      return 0.0;
    }
    const auto faults = static_cast<double>(sample.faults);
    result_.fault_s.push_back(sample.seconds / faults);
    result_.fault_bytes.push_back(static_cast<double>(sample.bytes) / faults);
    return sample.seconds;
  }};
  measure(once, plan_.budgets.faults);
}

void Calibration::admission() {
  constexpr std::size_t kPages = 4096;
  watch_.begin("admission", plan_.budgets.admission);
  result_.admit_s =
      summarise(measure({[this] { return machine_.admit_s(kPages); }}, plan_.budgets.admission)[0]);
}

}  // namespace

MachineMeasurements measure_machine(MachineProbe& machine, const CalibrationPlan& plan,
                                    const ProgressFunction& progress) {
  return Calibration(machine, plan, progress).run();
}

}  // namespace moesim
