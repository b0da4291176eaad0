#include "calibration/flash_fit.h"

#include <algorithm>
#include <cmath>

#include "support/testing.h"

namespace moesim::test {

TEST_SUITE("calibration/flash_fit") {
  FlashSpec known() {
    FlashSpec spec;
    spec.host_delay_us = 150;
    spec.dev_cmd_us = 14;
    spec.bw_gbps = 2.6;
    spec.copy_gbps = 8;
    spec.qd_limit = 64;
    return spec;
  }

  // Seconds on the host and on the device for one read of `bytes`.
  double host_s(const FlashSpec& spec, double bytes) {
    return spec.host_delay_us * 1e-6 + (spec.copy_gbps > 0 ? bytes / (spec.copy_gbps * 1e9) : 0.0);
  }
  double device_s(const FlashSpec& spec, double bytes) {
    return spec.dev_cmd_us * 1e-6 + bytes / (spec.bw_gbps * 1e9);
  }

  FlashTable table_of(const FlashSpec& spec) {
    FlashTable table;
    for (const std::size_t kib : {64U, 256U, 1024U, 4096U}) {
      for (const std::size_t lanes : {1U, 2U, 8U}) {
        const auto bytes = static_cast<double>(kib * 1024);
        const double rate = std::min(
            static_cast<double>(lanes) * bytes / (host_s(spec, bytes) + device_s(spec, bytes)),
            bytes / device_s(spec, bytes));
        table.push_back({kib * 1024, lanes, rate});
      }
    }
    return table;
  }

  TEST_CASE("one lane runs host and device in turn") {
    const FlashSpec spec = known();
    for (const double bytes : {4096.0, 262144.0, 8388608.0}) {
      CHECK(simulate_throughput(spec, static_cast<std::uint64_t>(bytes), 1) ==
            doctest::Approx(bytes / (host_s(spec, bytes) + device_s(spec, bytes))).epsilon(1e-6));
    }
  }

  TEST_CASE("many lanes keep the device busy") {
    const FlashSpec spec = known();
    for (const double bytes : {4096.0, 262144.0, 8388608.0}) {
      CHECK(simulate_throughput(spec, static_cast<std::uint64_t>(bytes), 64) ==
            doctest::Approx(bytes / device_s(spec, bytes)).epsilon(1e-6));
    }
  }

  TEST_CASE("between the two the bound that holds first holds, and the queue depth limits lanes") {
    FlashSpec spec = known();
    for (const FlashRow& row : table_of(spec)) {
      CAPTURE(row.read_bytes);
      CAPTURE(row.lanes);
      CHECK(simulate_throughput(spec, row.read_bytes, row.lanes) ==
            doctest::Approx(row.bytes_per_s).epsilon(1e-6));
    }
    spec.qd_limit = 1;
    CHECK(simulate_throughput(spec, 65536, 8) == simulate_throughput(spec, 65536, 1));
  }

  TEST_CASE("known values are found again") {
    const FlashSpec spec = known();
    const FlashFit fixed = fit_flash(table_of(spec), {spec.copy_gbps}, "t.csv");
    CHECK(fixed.host_delay_us == doctest::Approx(150).epsilon(0.01));
    CHECK(fixed.dev_cmd_us == doctest::Approx(14).epsilon(0.02));
    CHECK(fixed.bw_gbps == doctest::Approx(2.6).epsilon(0.01));
    CHECK(fixed.copy_gbps == 8);
    CHECK(fixed.rms < 0.002);
    CHECK(fixed.rows.size() == 12);

    const FlashFit all = fit_flash(table_of(spec), {std::nullopt}, "t.csv");
    CHECK(all.host_delay_us == doctest::Approx(150).epsilon(0.02));
    CHECK(all.dev_cmd_us == doctest::Approx(14).epsilon(0.02));
    CHECK(all.bw_gbps == doctest::Approx(2.6).epsilon(0.01));
    CHECK(all.copy_gbps == doctest::Approx(8).epsilon(0.02));
  }

  TEST_CASE("a drive without a device time per read and without a copy is found again") {
    FlashSpec nvme;
    nvme.host_delay_us = 185;
    nvme.bw_gbps = 12.9;
    nvme.qd_limit = 64;
    const FlashFit fit = fit_flash(table_of(nvme), {}, "t.csv");
    CHECK(fit.host_delay_us == doctest::Approx(185).epsilon(0.01));
    CHECK(fit.dev_cmd_us <= 0.2);
    CHECK(fit.bw_gbps == doctest::Approx(12.9).epsilon(0.01));
  }

  TEST_CASE("errors are signed shares of what was measured") {
    FlashSpec spec = known();
    const double rate = simulate_throughput(spec, 1048576, 2);
    const FlashFit errors = evaluate_flash({{1048576, 2, rate / 1.1}, {1048576, 2, rate}}, spec);
    REQUIRE(errors.rows.size() == 2);
    CHECK(errors.rows[0].error == doctest::Approx(0.1));
    CHECK(errors.rows[1].error == doctest::Approx(0.0));
    CHECK(errors.rms == doctest::Approx(std::log(1.1) / std::sqrt(2.0)));
    CHECK(errors.host_delay_us == 150);
  }

  TEST_CASE("fewer rows than values and an impossible copy rate are refused") {
    const FlashTable two = {{4096, 1, 1e8}, {65536, 1, 1e9}};
    CHECK(user_error_of([&] { fit_flash(two, {}, "t.csv"); }) ==
          "t.csv: expected at least 3 rows, one per fitted value, got 2");
    CHECK(user_error_of([&] { fit_flash(two, {std::nullopt}, "t.csv"); }) ==
          "t.csv: expected at least 4 rows, one per fitted value, got 2");
    CHECK(user_error_of([&] { fit_flash(two, {-1.0}, "t.csv"); }) ==
          "copy_gbps: expected a number in [0, 1000000], got -1");
  }

  TEST_CASE("third party: the phone's size x lanes table") {
    const auto path = third_party("phone_measurements/iobench_sizes.csv");
    if (!path) return;
    const FlashTable table = read_flash_table(*path, "iobench_sizes.csv");
    CHECK(table.size() == 21);
    const std::filesystem::path file = source_dir() / "configs/devices/oneplus-15r.json";
    const FlashSpec spec =
        read_device(Section(read_json_file(file, file.string()), file.string(), "")).flash.value();

    const FlashFit fit = fit_flash(table, {spec.copy_gbps}, "iobench_sizes.csv");
    CHECK(fit.rms <= 0.08);
    // The device was fitted to this table, another and io of an engine together.
    CHECK(fit.host_delay_us == doctest::Approx(spec.host_delay_us).epsilon(0.1));
    CHECK(fit.bw_gbps == doctest::Approx(spec.bw_gbps).epsilon(0.1));
    CHECK(evaluate_flash(table, spec).rms <= 0.08);
  }

  TEST_CASE("third party: the lane sweep, which the device was fitted to beside the sizes") {
    const auto path = third_party("phone_measurements/iobench_lanes.csv");
    if (!path) return;
    const std::filesystem::path file = source_dir() / "configs/devices/oneplus-15r.json";
    const FlashSpec spec =
        read_device(Section(read_json_file(file, file.string()), file.string(), "")).flash.value();
    CHECK(evaluate_flash(read_flash_table(*path, "lanes"), spec).rms ==
          doctest::Approx(0.0369).epsilon(0.01));
  }
}

}  // namespace moesim::test
