#include "core/row_exp.h"

#include <vector>

#include "core/rng.h"
#include "support/testing.h"

namespace moesim::test {

TEST_SUITE("core/row_exp") {
  TEST_CASE("every exponential is within two units in the last place") {
    Rng rng(3);
    std::vector<double> row;
    for (const double scale : {1e-12, 0.01, 1.0, 30.0, 690.0}) {
      for (int i = 0; i < 20000; ++i) row.push_back(-scale * rng.uniform());
    }
    std::vector<double> result = row;
    exp_row(result);
    for (std::size_t i = 0; i < row.size(); ++i) {
      const double exact = std::exp(row[i]);
      REQUIRE(std::abs(result[i] - exact) <= 2 * 0x1.0p-52 * exact);
    }
  }

  TEST_CASE("the ends: 1 at 0, and what would underflow is next to nothing, any length") {
    std::vector<double> row = {0.0, -0.0, -700.0, -745.0, -800.0, -1e308, -1.0};
    exp_row(row);
    CHECK(row[0] == 1.0);
    CHECK(row[1] == 1.0);
    for (std::size_t i = 2; i < 6; ++i) {
      CHECK(row[i] > 0);
      CHECK(row[i] < 1e-303);
    }
    CHECK(std::abs(row[6] - std::exp(-1.0)) < 1e-15);
    std::vector<double> none;
    exp_row(none);
    CHECK(none.empty());
  }
}

}  // namespace moesim::test
