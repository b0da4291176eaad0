#include "metrics/bootstrap.h"

#include <cmath>
#include <vector>

#include "core/rng.h"
#include "support/testing.h"

namespace moesim::test {
namespace {

std::vector<double> draws(std::size_t count, double mean, std::uint64_t seed) {
  Rng rng(seed);
  std::vector<double> values;
  for (std::size_t i = 0; i < count; ++i) values.push_back(mean + rng.normal());
  return values;
}

}  // namespace

TEST_SUITE("metrics/bootstrap") {
  TEST_CASE("equal values leave nothing to be unsure of") {
    const std::vector<double> a(50, 3.0);
    const std::vector<double> b(50, 2.0);
    for (const bool paired : {true, false}) {
      const RatioInterval interval = *bootstrap_ratio(a, b, paired, 1);
      CHECK(interval.ratio == doctest::Approx(1.5));
      CHECK(interval.low == doctest::Approx(1.5));
      CHECK(interval.high == doctest::Approx(1.5));
      CHECK(interval.block_a == 4);  // the cube root of 50, rounded up
    }
    CHECK(bootstrap_ratio(std::vector<double>(27, 1.0), b, false, 1)->block_a == 3);
  }

  TEST_CASE("too few values, or too few that are not 0, give no interval") {
    const std::vector<double> few(20, 1.0);  // 7 blocks of 3
    CHECK_FALSE(bootstrap_ratio(few, few, true, 1).has_value());
    CHECK_FALSE(bootstrap_ratio({}, few, false, 1).has_value());
    const std::vector<double> many(22, 1.0);  // 8 blocks
    CHECK(bootstrap_ratio(many, many, true, 1).has_value());
    std::vector<double> rare(100, 0.0);
    rare[3] = 5;
    const std::vector<double> usual(100, 1.0);
    CHECK_FALSE(bootstrap_ratio(rare, usual, true, 1).has_value());
    CHECK_FALSE(bootstrap_ratio(usual, rare, false, 1).has_value());
  }

  TEST_CASE("what both have in common cancels where they are paired") {
    const std::vector<double> a = draws(1000, 10, 1);
    std::vector<double> b = a;
    for (double& value : b) value *= 2;
    const RatioInterval paired = *bootstrap_ratio(a, b, true, 1);
    CHECK(paired.high - paired.low < 1e-12);
    const RatioInterval apart = *bootstrap_ratio(a, b, false, 1);
    CHECK(apart.high - apart.low > 0.001);
  }

  TEST_CASE("the width is that of the error of a mean") {
    const RatioInterval interval =
        *bootstrap_ratio(draws(4000, 10, 1), draws(4000, 10, 2), false, 1);
    // Each mean has a relative standard error of 0.1 / sqrt(4000); an interval is 2 x 1.96 of both.
    const double expected = 2 * 1.96 * std::sqrt(2.0) * 0.1 / std::sqrt(4000.0);
    CHECK(interval.high - interval.low == doctest::Approx(expected).epsilon(0.15));
    CHECK(interval.low < 1);
    CHECK(interval.high > 1);
  }

  TEST_CASE("neighbours that are alike widen it") {
    std::vector<double> values;
    for (const double value : draws(100, 10, 3)) values.insert(values.end(), 10, value);
    std::vector<double> mixed;
    for (std::size_t i = 0; i < values.size(); ++i) mixed.push_back(values[i * 307 % 1000]);
    const std::vector<double> one(1000, 1.0);
    const RatioInterval runs = *bootstrap_ratio(values, one, false, 1);
    const RatioInterval single = *bootstrap_ratio(mixed, one, false, 1);
    CHECK(runs.high - runs.low > 1.5 * (single.high - single.low));
  }

  TEST_CASE("the seed decides") {
    const std::vector<double> a = draws(100, 10, 1);
    const std::vector<double> b = draws(80, 10, 2);
    const RatioInterval first = *bootstrap_ratio(a, b, false, 1);
    const RatioInterval again = *bootstrap_ratio(a, b, false, 1);
    CHECK(first.low == again.low);
    CHECK(first.low != bootstrap_ratio(a, b, false, 2)->low);
  }
}

}  // namespace moesim::test
