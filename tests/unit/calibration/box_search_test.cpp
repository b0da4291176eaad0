#include "calibration/box_search.h"

#include <cmath>

#include "support/testing.h"

namespace moesim::test {

TEST_SUITE("calibration/box_search") {
  TEST_CASE("a curved valley with a kink is followed to its end") {
    const auto valley = [](const std::vector<double>& x) {
      return 1.0 + std::abs(x[1] - x[0] * x[0]) * 10.0 + std::abs(x[0] - 0.7) + std::abs(x[2]);
    };
    const auto best = minimise_in_box({{-2, -2, -1}, {2, 2, 3}}, valley);
    CHECK(best[0] == doctest::Approx(0.7).epsilon(0.001));
    CHECK(best[1] == doctest::Approx(0.49).epsilon(0.002));
    CHECK(std::abs(best[2]) < 0.001);
  }

  TEST_CASE("the lowest of several basins is found") {
    const auto basins = [](const std::vector<double>& x) {
      return 2.0 + std::cos(3.0 * x[0]) + std::cos(3.0 * x[1]) + 0.05 * (x[0] + x[1]);
    };
    const auto best = minimise_in_box({{-5, -5}, {5, 5}}, basins);
    const double expected = -M_PI;  // the basin nearest to the low corner, -pi/3 - 2 pi/3
    CHECK(best[0] == doctest::Approx(expected).epsilon(0.01));
    CHECK(best[1] == doctest::Approx(expected).epsilon(0.01));
  }

  TEST_CASE("a minimum on the border of the box is reached and not left") {
    const auto slope = [](const std::vector<double>& x) { return 5.0 + x[0] - x[1]; };
    const auto best = minimise_in_box({{0, 0}, {1, 2}}, slope);
    CHECK(best[0] == doctest::Approx(0.0));
    CHECK(best[1] == doctest::Approx(2.0));
  }
}

}  // namespace moesim::test
