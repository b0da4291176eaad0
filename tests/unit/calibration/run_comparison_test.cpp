#include "calibration/run_comparison.h"

#include <cmath>

#include "support/testing.h"

namespace moesim {
namespace {

RunResult run_of(const std::vector<double>& walls_ms) {
  RunResult run;
  run.measured_tokens = walls_ms.size();
  run.time.emplace();
  run.time->tpot_ms = latency_statistics(walls_ms);
  for (std::size_t i = 0; i < walls_ms.size(); ++i) {
    TokenRow row;
    row.token = static_cast<std::uint32_t>(i);
    row.wall = from_us(walls_ms[i] * 1e3);
    run.rows.push_back(row);
  }
  return run;
}

Duration& part(RunResult& run, TimePart which) {
  return run.time->parts[static_cast<std::size_t>(which)];
}

}  // namespace

TEST_SUITE("calibration/run_comparison") {
  TEST_CASE("errors are simulated over real less one") {
    const RunResult real = run_of({10, 20, 30});
    const RunResult simulated = run_of({11, 18, 36});
    const TimeErrors errors = compare_times(real, simulated);
    CHECK(errors.mean == doctest::Approx(65.0 / 60 - 1));
    CHECK(errors.p50 == doctest::Approx(-0.1));
    CHECK(errors.p99 == doctest::Approx(35.64 / 29.8 - 1));
    CHECK(errors.per_token_mape == doctest::Approx((0.1 + 0.1 + 0.2) / 3));
    // Deviations -10, 0, 10 and -10.67, -3.67, 14.33.
    CHECK(errors.correlation.value() == doctest::Approx(250 / std::sqrt(200 * 332.6667)));
  }

  TEST_CASE("a part that hardly exists has no error, and equal tokens no correlation") {
    RunResult real = run_of({10, 10});
    RunResult simulated = run_of({10, 12});
    part(real, TimePart::kCompute) = from_us(8000);
    part(simulated, TimePart::kCompute) = from_us(10000);
    part(real, TimePart::kFlashStall) = from_us(100);
    part(simulated, TimePart::kFlashStall) = from_us(900);
    const TimeErrors errors = compare_times(real, simulated);
    CHECK(errors.compute.value() == doctest::Approx(0.25));
    CHECK_FALSE(errors.flash_stall);
    CHECK_FALSE(errors.io);
    CHECK_FALSE(errors.correlation);
  }

  TEST_CASE("noise is the largest distance from the run in the middle") {
    const std::vector<RunResult> runs{run_of({11, 11}), run_of({10, 10}), run_of({8, 10})};
    CHECK(median_run(runs) == 1);
    const RealNoise noise = noise_of(runs);
    CHECK(noise.repeats == 3);
    CHECK(noise.mean == doctest::Approx(0.1));
    CHECK(noise.p99 == doctest::Approx(0.1));
    CHECK(noise.per_token_mape == doctest::Approx((0.1 + 0.1) / 2));
    CHECK(median_run({run_of({4}), run_of({3})}) == 1);
    CHECK(noise_of({run_of({4})}).mean == 0);
    CHECK_THROWS_AS(median_run({}), InvariantError);
  }

  TEST_CASE("the first count that differs is named") {
    RunResult real = run_of({1, 1});
    RunResult simulated = run_of({2, 2});
    CHECK(first_difference(real, simulated).empty());
    simulated.time->flash.reads = 3;
    CHECK(first_difference(real, simulated) == "reads: real 0, simulated 3");
    simulated.cache.evictions = 1;
    CHECK(first_difference(real, simulated) == "evictions: real 0, simulated 1");
    real.rows[1].read_bytes = 5;
    CHECK(first_difference(real, simulated) == "token 1: bytes read: real 5, simulated 0");
    real.rows[1].hits = 2;
    CHECK(first_difference(real, simulated) == "token 1: hits: real 2, simulated 0");
  }

  TEST_CASE("runs of other tokens are not compared") {
    CHECK_THROWS_AS(compare_times(run_of({1}), run_of({1, 2})), InvariantError);
    RunResult other = run_of({1});
    other.rows[0].token = 7;
    CHECK_THROWS_AS(compare_times(run_of({1}), other), InvariantError);
    other.time.reset();
    CHECK_THROWS_AS(first_difference(other, run_of({1})), InvariantError);
  }
}

}  // namespace moesim
