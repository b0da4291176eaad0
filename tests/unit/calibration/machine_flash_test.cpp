#include "calibration/machine_flash.h"

#include "support/testing.h"

namespace moesim::test {

TEST_SUITE("calibration/machine_flash") {
  constexpr std::uint64_t kKiB = 1024;

  FlashSpec queue() {
    FlashSpec spec;
    spec.bw_gbps = 2;
    spec.dev_cmd_us = 10;
    spec.host_delay_us = 50;
    return spec;
  }

  double rate(std::uint64_t kib, double command_us) {
    const auto bytes = static_cast<double>(kib * kKiB);
    return bytes / (command_us * 1e-6 + bytes / 2e9);
  }

  TEST_CASE("the curve has the most that the device served where the queue model is too fast") {
    FlashTable table;
    for (const std::uint64_t kib : {4U, 16U, 32U, 64U, 256U}) {
      // Commands take four times as long as the model has it below 32 KiB.
      const double full = rate(kib, kib < 32 ? 40 : 10);
      for (const std::size_t lanes : {1U, 8U}) {
        table.push_back({kib * kKiB, lanes, lanes == 1 ? full / 2 : full});
      }
    }
    const auto curve = small_read_curve(table, queue());
    REQUIRE(curve.size() == 3);
    CHECK(curve[0].first == 4);
    CHECK(curve[0].second == doctest::Approx(rate(4, 40) * 1e-9).epsilon(1e-3));
    CHECK(curve[1].first == 16);
    CHECK(curve[1].second == doctest::Approx(rate(16, 40) * 1e-9).epsilon(1e-3));
    CHECK(curve[2].first == 32);
    CHECK(curve[2].second == doctest::Approx(rate(32, 10) * 1e-9).epsilon(1e-3));
    // What it is for: the model with the curve says what was measured.
    FlashSpec spec = queue();
    spec.small_read_curve = curve;
    spec.qd_limit = 64;
    CHECK(simulate_throughput(spec, 4 * kKiB, 8) == doctest::Approx(rate(4, 40)).epsilon(0.01));
  }

  TEST_CASE("without a size that is held back there is no curve, and large sizes never are on it") {
    FlashTable table;
    for (const std::uint64_t kib : {4U, 16U}) table.push_back({kib * kKiB, 8, rate(kib, 10)});
    CHECK(small_read_curve(table, queue()).empty());
    table.push_back({256 * kKiB, 8, 1e6});
    CHECK(small_read_curve(table, queue()).empty());
    CHECK(small_read_curve({{4 * kKiB, 8, rate(4, 40)}}, queue()).back().first == 256);
  }

  TEST_CASE("lanes: the fewest that come near the best at sizes of experts") {
    FlashTable table = {{1024 * kKiB, 1, 1e9},   {1024 * kKiB, 2, 1.95e9}, {1024 * kKiB, 4, 2e9},
                        {1024 * kKiB, 8, 1.9e9}, {4 * kKiB, 8, 1e9},       {4 * kKiB, 2, 1e8}};
    CHECK(best_lanes(table) == 2);
    table[1].bytes_per_s = 1.9e9;
    CHECK(best_lanes(table) == 4);
    CHECK(best_lanes({{4 * kKiB, 1, 1e8}, {4 * kKiB, 8, 4e8}}) == 8);
  }

  TEST_CASE("the spread of single reads is that of the middle half") {
    CHECK(log_normal_sigma({}) == 0);
    const std::vector<double> deviations = {-0.1349, -0.06745, 0, 0.06745, 5};
    CHECK(log_normal_sigma(deviations) == doctest::Approx(0.1));
  }

  MachineMeasurements measured_by(const FlashSpec& spec) {
    MachineMeasurements measured;
    for (const std::uint64_t kib : {64U, 256U, 1024U, 4096U}) {
      for (const std::size_t lanes : {1U, 2U, 8U}) {
        const double bytes_per_s = simulate_throughput(spec, kib * kKiB, lanes);
        measured.reads.push_back(
            {{ReadMethod::kLanes, false, kib * kKiB, lanes}, {bytes_per_s, 0.01, 5}});
        // Other orders and methods are kept, not fitted to.
        measured.reads.push_back({{ReadMethod::kLanes, true, kib * kKiB, lanes}, {9e9, 0, 5}});
        measured.reads.push_back({{ReadMethod::kUring, false, kib * kKiB, 32}, {9e9, 0, 5}});
      }
    }
    return measured;
  }

  TEST_CASE("times by depth are taken where they fit better, and only there") {
    FlashSpec spec = queue();
    spec.qd_limit = 64;
    CHECK(fit_machine_flash(measured_by(spec)).spec.command_curve.empty());
    spec.host_delay_us = spec.dev_cmd_us = 0;
    spec.command_curve = {{1, 60}, {2, 40}, {8, 15}};
    const MachineFlash flash = fit_machine_flash(measured_by(spec));
    REQUIRE(flash.spec.command_curve.size() == 3);
    CHECK(flash.spec.command_curve[1].second == doctest::Approx(40).epsilon(0.05));
    CHECK(flash.spec.host_delay_us == 0);
    CHECK(flash.spec.dev_cmd_us == 0);
    CHECK(flash.fitted_cells == 12);
    CHECK(flash.rms < 0.01);
  }

  TEST_CASE("a fit finds the values that the reads were made with") {
    FlashSpec spec = queue();
    spec.qd_limit = 64;
    MachineMeasurements measured = measured_by(spec);
    measured.fault_s = {90e-6, 100e-6, 300e-6};
    measured.fault_bytes = {16384, 16384, 32768};
    const MachineFlash flash = fit_machine_flash(measured);
    CHECK(flash.spec.bw_gbps == doctest::Approx(2).epsilon(0.01));
    CHECK(flash.spec.host_delay_us == doctest::Approx(50).epsilon(0.05));
    CHECK(flash.spec.copy_gbps == 0);
    CHECK(flash.rms < 0.01);
    CHECK(flash.rms_all == doctest::Approx(flash.rms).epsilon(0.01));
    CHECK(flash.fitted_cells == 9);
    CHECK(flash.spec.qd_limit == 32);
    CHECK(flash.spec.small_read_curve.empty());
    CHECK(*flash.spec.mmap_fault_us == doctest::Approx(100));
    CHECK(flash.spec.mmap_window_kib == doctest::Approx(16));
    // Readahead that hides all faults but the first of 8 MiB.
    measured.fault_s = {8e-3};
    measured.fault_bytes = {8192 * 1024};
    const MachineFlash hidden = fit_machine_flash(measured);
    CHECK(*hidden.spec.mmap_fault_us == doctest::Approx(125));
    CHECK(hidden.spec.mmap_window_kib == doctest::Approx(128));
  }

  TEST_CASE("time on the host per byte becomes a copy rate where there is some") {
    FlashSpec spec = queue();
    spec.qd_limit = 64;
    spec.copy_gbps = 4;
    const MachineFlash flash = fit_machine_flash(measured_by(spec));
    CHECK(flash.spec.copy_gbps == doctest::Approx(4).epsilon(0.1));
    CHECK_FALSE(flash.spec.mmap_fault_us.has_value());
  }

  TEST_CASE("too few reads are refused") {
    MachineMeasurements measured = measured_by(queue());
    measured.reads.resize(2);
    CHECK(contains(user_error_of([&] { fit_machine_flash(measured); }), "measured reads"));
  }
}

}  // namespace moesim::test
