#include "calibration/small_operators.h"

#include <cmath>
#include <vector>

#include "support/testing.h"

namespace moesim::test {

TEST_SUITE("calibration/small_operators") {
  TEST_CASE("the norm divides by the root of the mean square, tails included") {
    for (const std::size_t n : {1U, 15U, 16U, 37U}) {
      std::vector<float> x(n);
      double squares = 0;
      for (std::size_t i = 0; i < n; ++i) {
        x[i] = static_cast<float>(i) - 3.5F;
        squares += x[i] * x[i];
      }
      const std::vector<float> weights(n, 2.0F);
      std::vector<float> y(n);
      rms_norm(x, weights, y);
      const double rms = std::sqrt(squares / static_cast<double>(n) + 1e-6);
      for (std::size_t i = 0; i < n; ++i) {
        CHECK(y[i] == doctest::Approx(2 * x[i] / rms).epsilon(1e-5));
      }
    }
  }

  TEST_CASE("outputs are added with their weights") {
    const std::vector<float> outputs = {1, 2, 3, 10, 20, 30};
    const std::vector<float> weights = {0.5F, 0.25F};
    std::vector<float> y = {1, 1, 1};
    combine(outputs, weights, y);
    CHECK(y == std::vector<float>{4, 7, 10});
    const std::vector<float> residual = {1, 2, 3};
    add_to(residual, y);
    CHECK(y == std::vector<float>{5, 9, 13});
  }
}

}  // namespace moesim::test
