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

  TEST_CASE("no more lanes than the device has places for") {
    FlashSpec narrow = flash();
    narrow.qd_limit = 2;
    CHECK(page_fault_path(narrow, 4).lanes == 2);
  }
}

}  // namespace moesim::test
