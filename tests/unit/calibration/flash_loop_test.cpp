// How the flash model behaves as a whole, on the devices that are shipped.
#include "calibration/flash_loop.h"

#include "calibration/flash_fit.h"
#include "support/shipped.h"

namespace moesim::test {

TEST_SUITE("calibration/flash_loop") {
  TEST_CASE("two lanes saturate reads of MiB, and more lanes only add latency") {
    FlashSpec spec = shipped_flash("oneplus-15r");
    spec.bounce_gbps = 0;
    for (const std::uint64_t mib : {1, 4, 8}) {
      const std::uint64_t bytes = mib * kMiB;
      const double one = simulate_throughput(spec, bytes, 1);
      const double two = simulate_throughput(spec, bytes, 2);
      CHECK(two > 1.15 * one);
      double latency_of_two = 0;
      for (const std::size_t lanes : {2U, 4U, 8U, 16U, 32U}) {
        CAPTURE(lanes);
        const double rate = simulate_throughput(spec, bytes, lanes);
        CHECK(rate == doctest::Approx(two).epsilon(0.02));
        // Little's law: outstanding reads = reads per second x time of each.
        const double latency = static_cast<double>(lanes) * static_cast<double>(bytes) / rate;
        if (lanes == 2) latency_of_two = latency;
        CHECK(latency / latency_of_two ==
              doctest::Approx(static_cast<double>(lanes) / 2).epsilon(0.02));
      }
    }
    // Small reads are another matter: there the host delay wants more lanes.
    CHECK(simulate_throughput(spec, 131072, 4) > 1.5 * simulate_throughput(spec, 131072, 2));
  }

  TEST_CASE("a hot device loses bandwidth") {
    FlashLoop cool(shipped_flash("oneplus-15r"), 4);
    FlashLoop hot(shipped_flash("oneplus-15r"), 4);
    hot.device().set_derate(0.67);
    const std::vector<std::uint64_t> reads(64, 4 * kMiB);
    const double ratio = to_seconds(cool.drain(reads)) / to_seconds(hot.drain(reads));
    CHECK(ratio == doctest::Approx(0.67).epsilon(0.01));  // measured: 1645 of 2460 MiB/s
  }

  TEST_CASE(
      "the copy of a bounced read keeps its lane from the next, and the device from nothing") {
    FlashSpec spec;
    spec.bw_gbps = 2;
    spec.host_delay_us = 100;
    spec.qd_limit = 8;
    const auto drained = [&](std::size_t lanes, double bounce) {
      spec.bounce_gbps = bounce;
      FlashLoop loop(spec, lanes);
      return to_us(loop.drain(std::vector<std::uint64_t>(8, 1'000'000)));
    };
    // Host 100 us, device 500 us, copy 400 us.
    CHECK(drained(1, 0) == doctest::Approx(8 * 600));
    CHECK(drained(1, 2.5) == doctest::Approx(8 * 1000));
    // Two lanes: the device waits for neither, but for the first host delay and after the last
    // read.
    CHECK(drained(2, 2.5) == doctest::Approx(100 + 8 * 500 + 400));
    CHECK(drained(8, 2.5) == doctest::Approx(100 + 8 * 500 + 400));
    // A copy that takes longer than the device: two lanes no longer suffice, three do.
    CHECK(drained(2, 1.0) > drained(3, 1.0));
  }

  TEST_CASE("asynchronous reads of the OnePlus 12 come out by core, size and range") {
    FlashSpec spec = shipped_flash("oneplus-12");
    const auto gbps = [&](std::uint64_t kib) {
      return simulate_throughput(spec, kib * 1024, spec.lanes) * 1e-9;
    };
    CHECK(gbps(4) == doctest::Approx(1.076).epsilon(0.02));
    CHECK(gbps(32) == doctest::Approx(1.75).epsilon(0.02));
    CHECK(gbps(512) == doctest::Approx(3.5).epsilon(0.02));
    // Not in the file: the mid and little cores, in the same small range.
    spec.issue_clock_ghz = 3.0;
    CHECK(gbps(4) == doctest::Approx(1.008).epsilon(0.03));
    spec.issue_clock_ghz = 2.2;
    CHECK(gbps(4) == doctest::Approx(0.762).epsilon(0.03));
    CHECK(gbps(512) == doctest::Approx(3.5).epsilon(0.02));
    // One read at a time, as the sequential sweep of 4 KB ran: 0.45 GB/s.
    spec.issue_clock_ghz = 3.3;
    CHECK(simulate_throughput(spec, 4096, 1) * 1e-9 == doctest::Approx(0.45).epsilon(0.25));
    const FlashDevice wide(spec, spec.lanes, 512 * kMiB);
    const double in_512 = 4096 / to_seconds(wide.service_time(4096)) * 1e-9;
    CHECK(in_512 <= 0.87);  // measured: below 0.85
    CHECK(in_512 >= 0.8);
  }

  TEST_CASE("one submitter bounds reads of many short commands, threads do not") {
    FlashSpec spec;
    spec.bw_gbps = 100;
    spec.qd_limit = 32;
    spec.max_cmd_kib = 512;
    spec.cycles_per_cmd = 12'000;
    spec.issue_clock_ghz = 3;
    spec.submission = Submission::kAsync;
    // 8 commands of 4 us each and 42 us on the device: the device is the bound.
    CHECK(simulate_throughput(spec, 4 * kMiB, 32) * 1e-9 == doctest::Approx(100).epsilon(0.01));
    spec.max_cmd_kib = 128;  // 32 commands, 128 us
    CHECK(simulate_throughput(spec, 4 * kMiB, 32) ==
          doctest::Approx(4 * 1048576 / 128e-6).epsilon(0.01));
    spec.submission = Submission::kThreads;
    CHECK(simulate_throughput(spec, 4 * kMiB, 32) * 1e-9 == doctest::Approx(100).epsilon(0.01));
  }

  TEST_CASE("boards and cards come out at the rates that are published for them") {
    const auto gbps = [](const char* name, std::uint64_t kib, std::size_t lanes) {
      return simulate_throughput(shipped_flash(name), kib * 1024, lanes) * 1e-9;
    };
    CHECK(gbps("raspberry-pi-5-microsd", 4, 1) == doctest::Approx(0.0096).epsilon(0.01));
    CHECK(gbps("raspberry-pi-5-microsd", 1024, 1) == doctest::Approx(0.088).epsilon(0.01));
    CHECK(gbps("cm5-nvme", 4, 1) == doctest::Approx(0.063).epsilon(0.02));
    CHECK(gbps("m4-pro", 18554, 8) == doctest::Approx(6.59).epsilon(0.01));
    CHECK(gbps("m5-pro", 11553, 1) == doctest::Approx(10.73).epsilon(0.01));
    CHECK(gbps("m5-pro", 11553, 2) == doctest::Approx(12.79).epsilon(0.015));
    CHECK(gbps("m3-max", 3809, 1) == doctest::Approx(4.5).epsilon(0.02));
  }

  TEST_CASE("what is drained is what was queued, in any order of sizes") {
    const FlashSpec spec = shipped_flash("oneplus-15r");
    FlashLoop loop(spec, 4);
    CHECK(loop.drain({}) == Duration::zero());
    std::vector<std::uint64_t> reads;
    Duration device{};
    for (std::uint64_t i = 0; i < 100; ++i) {
      reads.push_back(1 + i * 7919 % 300'000);
      device += FlashDevice(spec, 4).service_time(reads.back());
    }
    const Duration all = loop.drain(reads);
    CHECK(all >= device);
    CHECK(loop.device().idle());
    CHECK(loop.drain(reads) == all);  // nothing is left from before
  }
}

}  // namespace moesim::test
