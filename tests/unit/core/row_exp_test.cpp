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

  TEST_CASE("the ends: 1 at 0, and what underflows is 0") {
    std::vector<double> row = {0.0, -0.0, -700.0, -745.0, -800.0, -1e308};
    exp_row(row);
    CHECK(row[0] == 1.0);
    CHECK(row[1] == 1.0);
    CHECK(row[2] > 0);
    CHECK(row[3] >= 0);
    CHECK(row[4] == 0.0);
    CHECK(row[5] == 0.0);
  }
}

}  // namespace moesim::test
