#include "hardware/page_faults.h"

#include "hardware/flash_device.h"
#include "support/testing.h"

namespace moesim::test {
namespace {

FlashSpec flash() {
  FlashSpec spec;
  spec.bw_gbps = 2.0;
  spec.dev_cmd_us = 20;
  spec.host_delay_us = 170;
  spec.copy_gbps = 10;
  spec.lanes = 8;
  spec.mmap_fault_us = 90;
  spec.mmap_window_kib = 16;
  return spec;
}

}  // namespace

TEST_SUITE("hardware/page_faults") {
  TEST_CASE("one fault takes as long as the file says, its time at the device included") {
    const FlashDevice device(page_fault_path(flash(), 4), 4);
    CHECK(device.lanes() == 4);
    const Duration fault = device.host_delay(16 * 1024) + device.service_time(16 * 1024);
    CHECK(std::abs(to_us(fault) - 90) < 0.001);
    const Duration mib = device.host_delay(kMiB) + device.service_time(kMiB);
    CHECK(std::abs(to_us(mib) - 64 * 90) < 0.1);
  }

  TEST_CASE("a device that is slower than its faults is the limit") {
    FlashSpec slow = flash();
    slow.bw_gbps = 0.1;  // 164 us for a window
    const FlashDevice device(page_fault_path(slow, 4), 4);
    CHECK(device.host_delay(kMiB) == Duration::zero());
    CHECK(page_fault_time(slow, kMiB, 64) == transfer_time(kMiB, to_rate(0.1)));
  }

  TEST_CASE("threads fault in parallel, and windows are whole") {
    CHECK(page_fault_time(flash(), kMiB, 4) == from_us(16 * 90));
    CHECK(page_fault_time(flash(), kMiB, 1) == from_us(64 * 90));
    CHECK(page_fault_time(flash(), 1, 1) == from_us(90));
    // Row Q11's order of magnitude: 140 MiB a token.
    CHECK(to_ms(page_fault_time(flash(), 140 * kMiB, 4)) == doctest::Approx(201.6));
  }

  TEST_CASE("a hot device is slower in its part of a fault, and as the limit") {
    FlashSpec hot = flash();
    hot.hot_derate = 0.5;
    FlashDevice device(page_fault_path(hot, 4), 4);
    device.set_derate(page_fault_path(hot, 4).hot_derate);
    const double device_us = 16 * 1024 / 2e3;
    const Duration fault = device.host_delay(16 * 1024) + device.service_time(16 * 1024);
    CHECK(to_us(fault) == doctest::Approx(90 + device_us).epsilon(1e-5));
    CHECK(page_fault_time(hot, kMiB, 4, 0.5) == from_us(16 * (90 + device_us)));
    CHECK(page_fault_time(hot, kMiB, 64, 0.5) == transfer_time(kMiB, to_rate(1.0)));
  }

  TEST_CASE("what a fault contains is not charged again") {
    FlashSpec rich = flash();
    rich.bounce_gbps = 2.5;
    rich.submission = Submission::kAsync;
    rich.cycles_per_cmd = 12000;
    rich.issue_clock_ghz = 3;
    rich.max_cmd_kib = 4;
    rich.multi_issuer_derate = 0.6;
    rich.small_read_curve = {{4, 0.1}, {256, 0.2}};
    rich.range_derate = {{1, 0.5}};
    const FlashDevice plain(page_fault_path(flash(), 4), 4, 1024 * kMiB);
    const FlashDevice device(page_fault_path(rich, 4), 4, 1024 * kMiB);
    CHECK_FALSE(device.bounces());
    CHECK_FALSE(device.submits_in_turn());
    for (const std::uint64_t bytes : {std::uint64_t{16 * 1024}, kMiB}) {
      CHECK(device.host_delay(bytes) == plain.host_delay(bytes));
      CHECK(device.service_time(bytes) == plain.service_time(bytes));
    }
  }

  TEST_CASE("no more lanes than the device has places for") {
    FlashSpec narrow = flash();
    narrow.qd_limit = 2;
    CHECK(page_fault_path(narrow, 4).lanes == 2);
  }
}

}  // namespace moesim::test
