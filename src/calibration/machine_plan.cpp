#include "calibration/machine_plan.h"

namespace moesim {
namespace {

constexpr std::uint64_t kKiB = 1024;
constexpr double kQuickSeconds = 40;
constexpr double kFullSeconds = 200;
constexpr std::uint64_t kLeastBlocks = 4;  // of a scratch file, for reads of a size

PhaseBudgets budgets_of(double total) {
  PhaseBudgets budgets;
  budgets.kernels = 0.41 * total;
  budgets.overheads = 0.04 * total;
  budgets.scratch = 0.07 * total;
  budgets.flash = 0.36 * total;
  budgets.faults = 0.04 * total;
  budgets.admission = 0.02 * total;
  budgets.fit = 0.06 * total;
  return budgets;
}

void add_cells(std::vector<ReadCell>& cells, ReadMethod method, bool sequential,
               std::uint64_t bytes, const std::vector<std::size_t>& depths) {
  cells.reserve(cells.size() + depths.size());
  for (const std::size_t depth : depths) cells.push_back({method, sequential, bytes, depth});
}

}  // namespace

// Shapes: routers of 64 to 256 experts, gate, up and down of experts from 512 to 4096 wide,
// attention, and a head in part.
CalibrationPlan calibration_plan(bool quick, double budget_s) {
  CalibrationPlan plan;
  plan.budgets = budgets_of(budget_s > 0 ? budget_s : quick ? kQuickSeconds : kFullSeconds);
  plan.lanes = {1, 2, 4, 8};
  if (quick) {
    plan.shapes = {{64, 2048},   {128, 4096},  {512, 512},   {512, 2048},
                   {768, 2048},  {2048, 768},  {1408, 2048}, {2048, 2048},
                   {4096, 2048}, {2048, 8192}, {4096, 4096}, {16384, 1024}};
    plan.experts = {{2048, 768}, {2048, 1408}};
    plan.read_sizes = {4 * kKiB,   16 * kKiB,   64 * kKiB,  256 * kKiB,
                       512 * kKiB, 1024 * kKiB, 4096 * kKiB};
    plan.depths = {1, 4, 32};
    plan.sequential_depths = {1, 4};
    plan.least_rounds = 3;
    return plan;
  }
  plan.shapes = {{64, 2048},   {128, 2048},  {128, 4096},   {256, 7168},  {512, 512},
                 {512, 1024},  {1024, 512},  {512, 2048},   {2048, 512},  {768, 2048},
                 {2048, 768},  {1408, 2048}, {2048, 1408},  {2048, 2048}, {4096, 2048},
                 {2048, 4096}, {8192, 2048}, {2048, 8192},  {4096, 4096}, {4096, 1536},
                 {1536, 4096}, {16384, 512}, {16384, 1024}, {16384, 2048}};
  plan.experts = {{2048, 768}, {2048, 1408}, {2048, 2048}, {4096, 1536}};
  plan.read_sizes = {4 * kKiB,   8 * kKiB,   16 * kKiB,   32 * kKiB,   64 * kKiB,   128 * kKiB,
                     256 * kKiB, 512 * kKiB, 1024 * kKiB, 2048 * kKiB, 4096 * kKiB, 8192 * kKiB};
  plan.depths = {1, 2, 4, 8, 32};
  plan.sequential_depths = plan.lanes;
  return plan;
}

std::vector<std::size_t> thread_counts(std::size_t cores) {
  std::vector<std::size_t> counts;
  for (std::size_t threads = 1; threads < cores; threads *= 2) counts.push_back(threads);
  counts.push_back(cores);
  return counts;
}

std::vector<ReadCell> read_cells(const CalibrationPlan& plan, std::uint64_t scratch_bytes,
                                 bool uring) {
  std::vector<ReadCell> cells;
  for (const std::uint64_t bytes : plan.read_sizes) {
    if (bytes * kLeastBlocks > scratch_bytes) break;
    add_cells(cells, ReadMethod::kLanes, false, bytes, plan.lanes);
    add_cells(cells, ReadMethod::kLanes, true, bytes, plan.sequential_depths);
    if (!uring) continue;
    add_cells(cells, ReadMethod::kUring, false, bytes, plan.depths);
    add_cells(cells, ReadMethod::kUring, true, bytes, plan.sequential_depths);
  }
  return cells;
}

}  // namespace moesim
