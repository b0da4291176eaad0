#include "calibration/machine_statistics.h"

#include <algorithm>

#include "support/testing.h"

namespace moesim::test {

TEST_SUITE("calibration/machine_statistics") {
  TEST_CASE("quantiles lie straight between neighbours") {
    CHECK(quantile({4, 1, 3, 2}, 0) == 1);
    CHECK(quantile({4, 1, 3, 2}, 0.5) == 2.5);
    CHECK(quantile({4, 1, 3, 2}, 0.25) == 1.75);
    CHECK(quantile({4, 1, 3, 2}, 1) == 4);
    CHECK(quantile({7}, 0.3) == 7);
    CHECK_THROWS_AS(quantile({}, 0.5), InvariantError);
  }

  TEST_CASE("an outlier changes neither median nor spread") {
    const Summary usual = summarise({9, 10, 10, 10, 11});
    const Summary disturbed = summarise({9, 10, 10, 10, 1000});
    CHECK(usual.median == 10);
    CHECK(disturbed.median == usual.median);
    CHECK(disturbed.spread == usual.spread);
    CHECK(usual.repetitions == 5);
    CHECK(usual.mean == 10);
    CHECK(disturbed.mean == doctest::Approx((9 + 10 + 10 + 10 + 20) / 5.0));
    CHECK(summarise({1, 2, 3}).spread == doctest::Approx(0.5));
    CHECK(summarise({0, 0}).spread == 0);
  }

  // Measurements that take `cost` seconds each of a clock that only they move.
  struct Turns {
    double now = 0;
    std::size_t ticks = 0;
    std::vector<std::size_t> order;
    std::vector<std::vector<double>> run(const std::vector<double>& costs, TurnLimits limits) {
      std::vector<std::function<double()>> measurements;
      for (std::size_t i = 0; i < costs.size(); ++i) {
        measurements.emplace_back([this, i, cost = costs[i]] {
          order.push_back(i);
          now += cost;
          return cost;
        });
      }
      return measure_in_turns(
          measurements, limits, [this] { return now; }, [this] { ++ticks; });
    }
  };

  TEST_CASE("rounds go on until the time is used, each in an order of its own") {
    Turns turns;
    TurnLimits limits;
    limits.budget_s = 40;
    const auto samples = turns.run({1, 1, 1, 1}, limits);
    for (const auto& each : samples) CHECK(each.size() == 10);
    CHECK(turns.ticks == 40);
    std::vector<std::vector<std::size_t>> rounds;
    for (std::size_t i = 0; i < 40; i += 4) {
      rounds.emplace_back(turns.order.begin() + static_cast<std::ptrdiff_t>(i),
                          turns.order.begin() + static_cast<std::ptrdiff_t>(i + 4));
      std::vector<std::size_t> sorted = rounds.back();
      std::sort(sorted.begin(), sorted.end());
      CHECK(sorted == std::vector<std::size_t>{0, 1, 2, 3});
    }
    CHECK(std::adjacent_find(rounds.begin(), rounds.end(), std::not_equal_to<>()) != rounds.end());
    Turns again;
    again.run({1, 1, 1, 1}, limits);
    CHECK(again.order == turns.order);
  }

  TEST_CASE("there are so many rounds at least, unless they take three times the budget") {
    TurnLimits limits;
    limits.budget_s = 10;
    limits.least_rounds = 5;
    Turns slow;
    CHECK(slow.run({5}, limits)[0].size() == 5);
    Turns slower;
    CHECK(slower.run({12}, limits)[0].size() == 3);
    Turns slowest;
    for (const auto& each : slowest.run({100, 100}, limits)) CHECK(each.size() == 1);
    limits.most_rounds = 2;
    Turns fast;
    CHECK(fast.run({0.1}, limits)[0].size() == 2);
  }
}

}  // namespace moesim::test
