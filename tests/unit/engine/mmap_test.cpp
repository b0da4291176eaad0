// Misses by page faults of the threads that compute.
#include <cmath>

#include "hardware/page_faults.h"
#include "support/scenario.h"

namespace moesim::test {
namespace {

Scenario mapped(std::size_t tokens = 60) {
  Scenario scenario(tokens, 3);
  scenario.config["device"]["flash"]["mmap_fault_us"] = 90;
  scenario.config["execution"] = {{"read_path", "mmap"}, {"threads", 4}};
  return scenario;
}

double stall_ms(const RunReport& report) {
  return to_ms(report.result.time->parts[static_cast<std::size_t>(TimePart::kFlashStall)]);
}

void check_refused(const Scenario& scenario, const char* message) {
  const std::string got = user_error_of([&] { static_cast<void>(scenario.plan()); });
  CAPTURE(got);
  CHECK(contains(got, message));
}

}  // namespace

TEST_SUITE("engine/mmap") {
  TEST_CASE("a miss takes the faults of its windows, shared among the threads") {
    Scenario scenario = mapped();
    scenario.config["device"]["flash"]["bw_gbps"] = 1000;
    scenario.config["device"]["dram"]["total_gbps"] = 2000;
    scenario.config["device"]["flash"]["dev_cmd_us"] = 0;
    for (const std::size_t threads : {1, 2, 4, 6}) {
      CAPTURE(threads);
      scenario.config["execution"]["threads"] = threads;
      const RunReport report = scenario.run();
      const double faults = static_cast<double>(report.result.time->flash.bytes) / (16 * 1024);
      CHECK(stall_ms(report) ==
            doctest::Approx(faults * 0.090 / static_cast<double>(threads)).epsilon(1e-3));
      CHECK(report.result.time->flash.reads == report.result.cache.misses * threads);
    }
  }

  TEST_CASE("the rate of the device stays a limit, and bytes, hits and misses are the same") {
    Scenario scenario = mapped();
    const RunReport slow = scenario.run();
    scenario.config["device"]["flash"]["bw_gbps"] = 0.1;
    const RunReport limited = scenario.run();
    const auto bytes = limited.result.time->flash.bytes;
    CHECK(stall_ms(limited) >= to_ms(transfer_time(bytes, to_rate(0.1))));
    CHECK(stall_ms(limited) < 1.05 * to_ms(transfer_time(bytes, to_rate(0.1))));
    scenario.config["execution"]["read_path"] = "direct";
    scenario.config["device"]["flash"]["bw_gbps"] = 1.0;
    const RunReport direct = scenario.run();
    CHECK(direct.result.cache.hits == slow.result.cache.hits);
    CHECK(direct.result.time->flash.bytes == bytes);
    CHECK(stall_ms(direct) < stall_ms(slow));
  }

  TEST_CASE("the fault is all there is to admission, and DMA lands in place") {
    Scenario scenario = mapped();
    scenario.config["device"]["dram"]["dma_factor"] = 3;
    const TimeResult time = *scenario.run().result.time;
    CHECK(time.parts[static_cast<std::size_t>(TimePart::kAdmission)] == Duration::zero());
    scenario.config["execution"]["read_path"] = "direct";
    scenario.config["execution"]["lanes"] = 4;
    const TimeResult direct = *scenario.run().result.time;
    CHECK(direct.parts[static_cast<std::size_t>(TimePart::kAdmission)] > Duration::zero());
    CHECK(time.dram_bound_ms < direct.dram_bound_ms);
  }

  TEST_CASE("nothing is bounced, whatever the device could do, and the clock changes no fault") {
    Scenario scenario = mapped();
    const RunReport before = scenario.run();
    Json& device = scenario.config["device"];
    device["flash"]["bounce_gbps"] = 2.5;
    device["cpu"]["clock_ghz"] = 2.0;
    CHECK(scenario.plan()->config().resolved["execution"]["bounce"] == false);
    CHECK(stall_ms(scenario.run()) == stall_ms(before));
    scenario.config["execution"]["bounce"] = false;
    scenario.config["execution"]["clock_ghz"] = 1.0;
    CHECK(stall_ms(scenario.run()) == stall_ms(before));
    scenario.config["execution"]["bounce"] = true;
    check_refused(scenario, "/execution/bounce: expected false or null with read_path mmap");
  }

  TEST_CASE("two precisions share the threads as well") {
    Scenario scenario = mapped();
    scenario.config["weights"]["on_miss"] = {{"policy", "slices"}, {"low_bits", 4}};
    const RunReport report = scenario.run();
    const std::uint64_t bytes = report.result.cache.demand_bytes;
    CHECK(report.result.time->flash.bytes == bytes);
    const double faults = static_cast<double>(bytes) / (16 * 1024);
    CHECK(stall_ms(report) > faults * 0.090 / 4 * 0.99);
  }

  TEST_CASE("pages of a map that were stolen fault back from flash, and dropping them is free") {
    Scenario scenario = mapped();
    scenario.config["cache"] = {{"scope", "global"}, {"capacity_experts", 32}};
    scenario.config["device"]["memory"]["zram_gbps"] = 1.5;
    scenario.config["device"]["memory"]["direct_reclaim_share"] = 1.0;
    scenario.config["memory"]["app_budget_mib"] = 22;
    const RunReport report = scenario.run();
    const MemoryResult& memory = *report.result.memory;
    REQUIRE(memory.over_budget_mib() > 0);
    REQUIRE(memory.dense_mib + memory.kv_peak_mib < 22);
    REQUIRE(memory.refault_mib_per_token > 0);
    const double overhead =
        to_ms(report.result.time->parts[static_cast<std::size_t>(TimePart::kOverhead)]) / 60;
    CHECK(overhead - 4 * 0.050 ==
          doctest::Approx(memory.refault_mib_per_token * 64 * 0.090 / 4).epsilon(0.02));
  }

  TEST_CASE("what does not go with it is refused") {
    Scenario scenario = mapped();
    scenario.config["execution"]["overlap"] = "expert";
    check_refused(scenario, "/execution/overlap: expected none with read_path mmap");
    scenario = mapped();
    scenario.config["execution"]["lanes"] = 2;
    check_refused(scenario,
                  "/execution/lanes: expected none, or the 4 threads, with read_path mmap");
    scenario.config["execution"]["lanes"] = 4;
    CHECK_NOTHROW(static_cast<void>(scenario.plan()));
    scenario.config["prefetch"] = {{"policy", "previous_token"}};
    check_refused(scenario, "/prefetch/policy: expected none with execution.read_path mmap");
    scenario = mapped();
    scenario.config["device"]["flash"].erase("mmap_fault_us");
    check_refused(scenario,
                  "/execution/read_path: expected direct, because the device test-device has no "
                  "flash.mmap_fault_us, got mmap");
    scenario.config["memory"]["dense_pages"] = "file";
    scenario.config["execution"].erase("read_path");
    check_refused(scenario, "/memory/dense_pages: expected anonymous or pinned");
    scenario = mapped();
    scenario.config["device"] = nullptr;
    check_refused(scenario, "/execution/read_path: expected direct, because without a device");
    scenario.config["execution"].erase("read_path");
    scenario.config["memory"] = {{"buffers_mib", 1}};
    check_refused(scenario, "/memory: expected none, because without a device");
    scenario = mapped();
    scenario.config["device"] = "rtx-4090-nvme";
    check_refused(scenario, "/execution/read_path: expected direct, because a tier lies between");
  }
}

}  // namespace moesim::test
