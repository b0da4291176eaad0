#include "api/calibrate.h"

#include <algorithm>
#include <string>

#include "api/run.h"
#include "hardware/device.h"
#include "kernels/simd_target.h"
#include "support/fake_machine.h"
#include "support/testing.h"

namespace moesim::test {

TEST_SUITE("api/calibrate") {
  const DeviceText kText{"made-up", "a machine of formulas", "2026-01-31"};

  Device device_of(const Json& json) { return read_device(Section(json, "d.json", "")); }

  // Made once: a fit takes a while under sanitizers.
  const CalibratedDevice& quick_device() {
    static const CalibratedDevice kDevice = [] {
      FakeMachine machine;
      return calibrate(machine, calibration_plan(true, 5), kText, {});
    }();
    return kDevice;
  }

  TEST_CASE("a whole calibration of a made-up machine is a device with that machine's values") {
    FakeMachine machine;
    const CalibratedDevice calibrated = calibrate(machine, calibration_plan(false, 20), kText, {});
    const Device device = device_of(calibrated.json);
    CHECK(device.name == "made-up");
    CHECK(device.dram.cpu_core_gbps == doctest::Approx(10).epsilon(1e-4));
    CHECK(device.dram.cpu_gbps == doctest::Approx(16).epsilon(1e-4));
    CHECK(device.dram.total_gbps == device.dram.cpu_gbps);
    CHECK(device.cpu.threads == 2);
    CHECK(device.cpu.kernel_gbps.size() == 3);
    CHECK(device.cpu.layer_overhead_us == doctest::Approx(5));
    CHECK(device.cpu.cores.empty());
    CHECK(device.cpu.kernel_model.knows("f16", 2));
    CHECK(device.flash->bw_gbps == doctest::Approx(3).epsilon(0.02));
    CHECK(device.flash->host_delay_us == doctest::Approx(60).epsilon(0.1));
    CHECK(device.flash->lanes == 2);
    CHECK(device.flash->qd_limit == 32);
    CHECK(device.flash->noise_sigma > 0.05);
    CHECK(device.flash->noise_sigma < 0.2);
    // 40 000 reads of 4 KiB per second, and no more.
    REQUIRE_FALSE(device.flash->small_read_curve.empty());
    CHECK(device.flash->small_read_curve.front().second == doctest::Approx(0.16384).epsilon(0.01));
    CHECK(*device.flash->mmap_fault_us == doctest::Approx(50));
    CHECK(device.flash->mmap_window_kib == doctest::Approx(16));
    CHECK(device.memory.app_budget_mib == 4000);
    CHECK(device.memory.admit_us_per_page == doctest::Approx(0.2));
    CHECK_FALSE(device.energy.has_value());
    CHECK_FALSE(device.thermal.has_value());
    CHECK(calibrated.notes.empty());
  }

  TEST_CASE("every number says when and how it was measured, and no place or host") {
    const CalibratedDevice& calibrated = quick_device();
    const Device device = device_of(calibrated.json);
    for (const auto& entry : device.provenance.items()) {
      CAPTURE(entry.key());
      const auto source = entry.value()["source"].get<std::string>();
      CHECK(source.starts_with("sim calibrate, 2026-01-31, "));
      const auto tag = entry.value()["tag"].get<std::string>();
      CHECK((tag == "measured" || tag == "derived"));
    }
    const Json& bandwidth = calibrated.json["provenance"]["/dram/cpu_gbps"];
    CHECK(contains(bandwidth["source"].get<std::string>(), "repetitions"));
    CHECK(bandwidth.contains("spread"));
    CHECK(calibrated.json["provenance"]["/cpu/kernel_model"].contains("spread"));
    const Json& tables = calibrated.json["calibration"];
    CHECK(tables["reads"].size() >= 24);
    CHECK(tables["products"].size() >= 60);
    CHECK(tables["streams"].size() == 2);
    CHECK(contains(tables["reads"].dump(), "io_uring"));
    const auto has = [&](const char* what) {
      return std::any_of(calibrated.lines.begin(), calibrated.lines.end(),
                         [&](const CalibrationLine& line) { return contains(line.what, what); });
    };
    CHECK(has("dram/cpu_gbps"));
    CHECK(has("held-out"));
    CHECK(has("barrier"));
  }

  TEST_CASE("what a machine lacks is left out or marked, and said") {
    FakeMachine machine;
    machine.about.direct = false;
    machine.about.uring = false;
    machine.about.no_uring = "this kernel has none";
    machine.faults_per_touch = 0;
    machine.scratch = std::uint64_t{16} << 20;
    machine.about.cores = 1;
    const CalibratedDevice calibrated = calibrate(machine, calibration_plan(true, 5), kText, {});
    const Device device = device_of(calibrated.json);
    CHECK_FALSE(device.flash->mmap_fault_us.has_value());
    CHECK_FALSE(calibrated.json["flash"].contains("mmap_window_kib"));
    CHECK(calibrated.json["provenance"]["/flash/bw_gbps"]["tag"] == "estimate");
    CHECK(calibrated.json["provenance"]["/dram/cpu_gbps"]["tag"] == "measured");
    CHECK(device.flash->qd_limit == 8);
    CHECK(device.cpu.threads == 1);
    REQUIRE(calibrated.notes.size() == 3);
    CHECK(contains(calibrated.notes[0], "--buffered"));
    CHECK(contains(calibrated.notes[1], "this kernel has none"));
    CHECK(contains(calibrated.notes[2], "mmap_fault_us is left out"));
  }

  TEST_CASE("progress rises from nothing through all phases and stays within its time") {
    FakeMachine machine;
    std::vector<CalibrationProgress> seen;
    calibrate(machine, calibration_plan(true, 5), kText,
              [&](const CalibrationProgress& now) { seen.push_back(now); });
    REQUIRE_FALSE(seen.empty());
    CHECK(seen.front().done == 0);
    CHECK(seen.front().left_s == doctest::Approx(5));
    std::vector<std::string> phases;
    double last = 0;
    for (const CalibrationProgress& now : seen) {
      CHECK(now.done >= last);
      CHECK(now.done <= 1);
      CHECK(now.left_s >= -1e-9);
      last = now.done;
      if (phases.empty() || phases.back() != now.phase) phases.push_back(now.phase);
    }
    CHECK(phases == std::vector<std::string>{"memory and kernels", "overheads", "scratch file",
                                             "flash", "page faults", "admission", "fit"});
  }

  TEST_CASE("a run takes the device, and its kernel model") {
    ConfigText config =
        load_config((source_dir() / "configs/phone.json").string(), {"/trace/max_tokens=4"});
    config.root["device"] = quick_device().json;
    const RunReport report = run(config, {});
    CHECK(report.facts.device == "made-up");
  }

  std::string refusal(const CalibrateOptions& options) {
    return user_error_of([&] { calibrate(options, {}); });
  }

  TEST_CASE("limits and places that do not do are refused before anything is measured") {
    const TemporaryFolder folder;
    CalibrateOptions options;
    options.out = folder.path() / "device.json";
    if (const KernelSupport kernels = kernel_support(); !kernels.available) {
      CHECK(contains(refusal(options), kernels.reason));
      return;
    }
    options.max_disk_gib = 9;
    CHECK(contains(refusal(options), "--max-disk-gib: expected a number in [0.02, 8], got 9"));
    options.max_disk_gib = -1;
    CHECK(contains(refusal(options), "--max-disk-gib: expected"));
    options.max_disk_gib = 0.03;
    options.max_memory_gib = 0.2;
    CHECK(contains(refusal(options), "--max-memory-gib: expected at least"));
    options.max_memory_gib = 4;
    options.budget_s = -1;
    CHECK(contains(refusal(options), "--budget-s: expected"));
    options.budget_s = 1;
    options.out = folder.path() / "missing" / "device.json";
    CHECK(contains(refusal(options), "no such folder to write the device file to"));
    options.out = folder.path();
    CHECK(contains(refusal(options), "got a folder"));
    options.out = folder.path() / "device.json";
    options.dir = folder.path() / "missing";
    CHECK(contains(refusal(options), "no such folder for the scratch file"));
    CHECK(std::filesystem::is_empty(folder.path()));
  }
}

}  // namespace moesim::test
