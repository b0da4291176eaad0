#include "calibration/machine_plan.h"

#include <algorithm>

#include "support/testing.h"

namespace moesim::test {

TEST_SUITE("calibration/machine_plan") {
  TEST_CASE("thread counts are powers of two and the cores") {
    CHECK(thread_counts(1) == std::vector<std::size_t>{1});
    CHECK(thread_counts(2) == std::vector<std::size_t>{1, 2});
    CHECK(thread_counts(6) == std::vector<std::size_t>{1, 2, 4, 6});
    CHECK(thread_counts(8) == std::vector<std::size_t>{1, 2, 4, 8});
  }

  TEST_CASE("phases share the time that is given") {
    CHECK(calibration_plan(true, 0).budgets.total() == doctest::Approx(40));
    CHECK(calibration_plan(false, 0).budgets.total() == doctest::Approx(200));
    const CalibrationPlan plan = calibration_plan(true, 3);
    CHECK(plan.budgets.total() == doctest::Approx(3));
    CHECK(plan.shapes.size() == calibration_plan(true, 0).shapes.size());
    CHECK(plan.shapes.size() < calibration_plan(false, 0).shapes.size());
  }

  TEST_CASE("both plans have shapes of routers, heads and enough experts") {
    for (const bool quick : {true, false}) {
      const CalibrationPlan plan = calibration_plan(quick, 0);
      const auto experts = std::count_if(plan.shapes.begin(), plan.shapes.end(),
                                         [](const MatrixShape& s) { return s.is_expert_like(); });
      CHECK(experts >= 5);
      CHECK(plan.shapes.size() >= 12);
      CHECK_FALSE(plan.shapes.front().is_expert_like());
    }
    CHECK(MatrixShape{768, 2048}.is_expert_like());
    CHECK_FALSE(MatrixShape{64, 65536}.is_expert_like());
    CHECK_FALSE(MatrixShape{16384, 2048}.is_expert_like());
  }

  TEST_CASE("cells are those that the file has room for") {
    const CalibrationPlan plan = calibration_plan(false, 0);
    const auto all = read_cells(plan, std::uint64_t{1} << 30, true);
    const std::size_t per_size = 2 * plan.lanes.size() + plan.depths.size() + plan.lanes.size();
    CHECK(all.size() == plan.read_sizes.size() * per_size);
    const auto without = read_cells(plan, std::uint64_t{1} << 30, false);
    CHECK(std::none_of(without.begin(), without.end(),
                       [](const ReadCell& cell) { return cell.method == ReadMethod::kUring; }));
    for (const ReadCell& cell : read_cells(plan, std::uint64_t{16} << 20, true)) {
      CHECK(cell.read_bytes <= std::uint64_t{4} << 20);
    }
    CHECK(read_cells(plan, 4096, true).empty());
  }
}

}  // namespace moesim::test
