#include "calibration/depth_fit.h"

#include "calibration/flash_fit.h"
#include "support/testing.h"

namespace moesim::test {

TEST_SUITE("calibration/depth_fit") {
  constexpr std::uint64_t kKiB = 1024;

  FlashSpec falling() {
    FlashSpec spec;
    spec.bw_gbps = 4;
    spec.qd_limit = 64;
    spec.command_curve = {{1, 50}, {2, 33}, {4, 18}, {8, 10}};
    return spec;
  }

  FlashTable depth_table(const FlashSpec& spec) {
    FlashTable table;
    for (const std::uint64_t kib : {4U, 64U, 512U, 2048U}) {
      for (const std::size_t lanes : {1U, 2U, 4U, 8U}) {
        table.push_back({kib * kKiB, lanes, simulate_throughput(spec, kib * kKiB, lanes)});
      }
    }
    return table;
  }

  TEST_CASE("a closed loop has the throughput that the time by depth says") {
    const FlashSpec spec = falling();
    for (const auto& [depth, us] : spec.command_curve) {
      const double seconds = us * 1e-6 + 65536 / 4e9;
      CHECK(simulate_throughput(spec, 64 * kKiB, static_cast<std::size_t>(depth)) ==
            doctest::Approx(65536 / seconds));
    }
  }

  TEST_CASE("the fit finds the values that a table was made with") {
    const FlashTable table = depth_table(falling());
    FlashSpec base;
    base.qd_limit = 32;
    base.host_delay_us = 7;
    const FlashSpec fit = fit_by_depth(table, base);
    CHECK(fit.qd_limit == 32);
    CHECK(fit.host_delay_us == 0);
    CHECK(fit.bw_gbps == doctest::Approx(4).epsilon(0.002));
    REQUIRE(fit.command_curve.size() == 4);
    for (std::size_t i = 0; i < 4; ++i) {
      CHECK(fit.command_curve[i].first == falling().command_curve[i].first);
      CHECK(fit.command_curve[i].second ==
            doctest::Approx(falling().command_curve[i].second).epsilon(0.02));
    }
    CHECK(evaluate_flash(table, fit).rms < 0.005);
    // A device that takes milliseconds is not held to the bounds of a fast one.
    FlashSpec slow = falling();
    for (auto& point : slow.command_curve) point.second *= 100;
    CHECK(fit_by_depth(depth_table(slow), base).command_curve[0].second ==
          doctest::Approx(5000).epsilon(0.02));
    // What this model is for: the plain one cannot say it.
    CHECK(fit_flash(table, {}, "table").rms > 0.05);
  }
}

}  // namespace moesim::test
