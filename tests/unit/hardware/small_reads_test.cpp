#include "hardware/small_reads.h"

#include <cmath>
#include <filesystem>

#include "hardware/flash_device.h"
#include "support/shipped.h"

namespace moesim::test {

TEST_SUITE("hardware/small_reads") {
  constexpr std::uint64_t kKib = 1024;

  // 1 GB/s and 10 us a read; 4 KiB at 0.1 GB/s, 64 KiB at 0.4, and a last point that is below what
  // the queue model says there.
  FlashSpec slow_at_small() {
    FlashSpec spec;
    spec.bw_gbps = 1;
    spec.dev_cmd_us = 10;
    spec.qd_limit = 64;
    spec.small_read_curve = {{4, 0.1}, {64, 0.4}, {256, 0.5}};
    return spec;
  }

  double gbps(const FlashDevice& flash, std::uint64_t bytes) {
    return static_cast<double>(bytes) / to_seconds(flash.service_time(bytes)) * 1e-9;
  }

  TEST_CASE("rates lie on the curve, straight in the logarithms between its points") {
    const FlashDevice flash(slow_at_small(), 1);
    CHECK(gbps(flash, 4 * kKib) == doctest::Approx(0.1).epsilon(1e-6));
    CHECK(gbps(flash, 64 * kKib) == doctest::Approx(0.4).epsilon(1e-6));
    CHECK(gbps(flash, 16 * kKib) == doctest::Approx(0.2).epsilon(1e-6));  // halfway
  }

  TEST_CASE("below the first point a read takes as long as there") {
    const FlashDevice flash(slow_at_small(), 1);
    for (const std::uint64_t bytes : {std::uint64_t{1}, kKib, 4 * kKib - 1}) {
      CHECK(to_us(flash.service_time(bytes)) == doctest::Approx(40.96));
    }
  }

  TEST_CASE("the curve ends where the queue model begins, without a step") {
    const FlashDevice flash(slow_at_small(), 1);
    const std::uint64_t end = 256 * kKib;
    const Duration queue = from_us(10) + transfer_time(end, to_rate(1));
    CHECK(flash.service_time(end) == queue);
    CHECK(to_us(flash.service_time(end - 1)) == doctest::Approx(to_us(queue)).epsilon(1e-4));
    // The measured point itself is slower: it is raised.
    CHECK(gbps(flash, end) > 0.9);
  }

  TEST_CASE("a curve faster than the queue model changes nothing") {
    FlashSpec spec = slow_at_small();
    spec.small_read_curve = {{4, 5.0}, {256, 10.0}};
    const FlashDevice with(spec, 1);
    spec.small_read_curve.clear();
    const FlashDevice without(spec, 1);
    for (std::uint64_t bytes = 4 * kKib; bytes < 512 * kKib; bytes *= 2) {
      CHECK(with.service_time(bytes) == without.service_time(bytes));
    }
  }

  TEST_CASE("the 128 and 256 KiB points of the phone leave its reads of 128 KiB and more alone") {
    FlashSpec spec = shipped_flash("oneplus-15r");
    REQUIRE(spec.small_read_curve.size() == 4);
    const FlashDevice with(spec, 4);
    spec.small_read_curve.clear();
    const FlashDevice without(spec, 4);
    for (const std::uint64_t kib : {128, 160, 200, 255, 256, 512, 4096}) {
      CAPTURE(kib);
      CHECK(with.service_time(kib * kKib) == without.service_time(kib * kKib));
    }
    CHECK(with.service_time(32 * kKib) > without.service_time(32 * kKib));
  }

  TEST_CASE("larger reads never take less time, and every shipped curve is one that rises") {
    for (const auto& file :
         std::filesystem::directory_iterator(source_dir() / "configs" / "devices")) {
      const std::string name = file.path().stem().string();
      const Device device = shipped_device(name);
      if (!device.flash) continue;
      CAPTURE(name);
      for (const std::uint64_t range : {std::uint64_t{0}, std::uint64_t{30} << 30U}) {
        for (const double derate : {1.0, 0.67}) {
          FlashDevice flash(*device.flash, device.flash->lanes, range);
          flash.set_derate(derate);
          for (double size = 512; size < 8e6; size *= 1.1) {
            const auto bytes = static_cast<std::uint64_t>(size);
            const auto more = static_cast<std::uint64_t>(size * 1.1);
            CAPTURE(bytes);
            CHECK(flash.service_time(more) + Duration{1} >= flash.service_time(bytes));
            CHECK(gbps(flash, more) >= gbps(flash, bytes) * (1 - 1e-4));  // whole picoseconds
          }
        }
      }
    }
  }

  TEST_CASE("a wide range slows the smallest reads most and the end of the curve not at all") {
    FlashSpec spec = slow_at_small();
    spec.range_derate = {{128, 1.0}, {512, 0.8}};
    const auto at = [&](std::uint64_t range_mib, std::uint64_t kib) {
      return gbps(FlashDevice(spec, 1, range_mib * kMiB), kib * kKib);
    };
    CHECK(at(0, 4) == doctest::Approx(0.1));
    CHECK(at(64, 4) == doctest::Approx(0.1));
    CHECK(at(512, 4) == doctest::Approx(0.08));
    CHECK(at(5000, 4) == doctest::Approx(0.08));
    CHECK(at(256, 4) == doctest::Approx(0.09));  // halfway in the logarithm of the range
    // From 4 to 256 KiB are 6 doublings; at 64 KiB 2 of them are left.
    CHECK(at(512, 64) == doctest::Approx(0.4 * std::pow(0.8, 2.0 / 6)));
    CHECK(at(512, 256) == at(0, 256));
    CHECK(at(512, 1024) == at(0, 1024));
  }

  TEST_CASE("several cores on one queue lose at small sizes only") {
    FlashSpec spec = slow_at_small();
    spec.small_read_curve.clear();
    const auto share = [&](std::size_t lanes, std::uint64_t kib) {
      FlashSpec whole = spec;
      whole.multi_issuer_derate = 1;
      return gbps(FlashDevice(spec, lanes), kib * kKib) /
             gbps(FlashDevice(whole, lanes), kib * kKib);
    };
    spec.multi_issuer_derate = 0.6;
    CHECK(share(4, 4) == doctest::Approx(0.6));
    CHECK(share(4, 1) == doctest::Approx(0.6));
    CHECK(share(4, 16) == doctest::Approx(std::pow(0.6, 3.0 / 5)));  // 3 of 5 doublings are left
    CHECK(share(4, 128) == 1.0);
    CHECK(share(4, 4096) == 1.0);
    CHECK(share(1, 4) == 1.0);  // one lane issues alone
    spec.queues = 8;
    CHECK(share(4, 4) == 1.0);
    spec.queues = 1;
    spec.submission = Submission::kAsync;
    spec.issue_clock_ghz = 3;
    CHECK(share(4, 4) == 1.0);  // one core submits for all
  }

  TEST_CASE("a hot device serves small reads more slowly too") {
    FlashDevice flash(slow_at_small(), 1);
    flash.set_derate(0.5);
    CHECK(gbps(flash, 4 * kKib) == doctest::Approx(0.05));
    CHECK(flash.service_time(kMiB) == from_us(10) + transfer_time(kMiB, to_rate(0.5)));
    flash.set_derate(1);
    CHECK(gbps(flash, 4 * kKib) == doctest::Approx(0.1));
  }
}

}  // namespace moesim::test
