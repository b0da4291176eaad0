#include "calibration/token_arithmetic.h"

#include <algorithm>
#include <vector>

#include "support/testing.h"

namespace moesim {

TEST_SUITE("calibration/token_arithmetic") {
  TEST_CASE("tokens begin differently, and the same again") {
    std::vector<float> a(64);
    std::vector<float> b(64);
    begin_token(3, a);
    begin_token(3, b);
    CHECK(a == b);
    CHECK(std::all_of(a.begin(), a.end(), [](float v) { return v >= -1 && v < 1; }));
    begin_token(4, b);
    CHECK(a != b);
  }

  TEST_CASE("rows are folded onto the stream, also fewer and not whole ones") {
    std::vector<float> x{1, 2, 3, 4};
    fold(std::vector<float>{1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4}, x);  // scale 1/2
    CHECK(x == std::vector<float>{6, 7, 8, 9});
    fold(std::vector<float>{1, 2}, x);
    CHECK(x == std::vector<float>{7, 9, 8, 9});
    fold({}, x);
    CHECK(x == std::vector<float>{7, 9, 8, 9});
  }

  TEST_CASE("a checksum tells values, places, signs of zero and what came before") {
    const std::vector<float> values{1, 2, 0};
    const std::uint64_t sum = checksum_of(values, 0);
    CHECK(sum == checksum_of(values, 0));
    CHECK(sum != checksum_of(std::vector<float>{2, 1, 0}, 0));
    CHECK(sum != checksum_of(std::vector<float>{1, 2, -0.0F}, 0));
    CHECK(sum != checksum_of(values, 1));
  }
}

}  // namespace moesim
