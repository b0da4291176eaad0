// Lanes that take cores from computing.
#include "engine/core_use.h"

#include "support/scenario.h"

namespace moesim::test {

TEST_SUITE("engine/core_use") {
  constexpr Duration kSecond{1'000'000'000'000};

  // Runs until the compute flow ends; `act` happens at the end of the flash flow.
  template <class Action>
  static TimePoint compute_end(EventQueue<SimEvent> & queue, MemoryBus & bus, Action act) {
    while (!queue.empty()) {
      const BusDone event = std::get<BusDone>(queue.pop());
      if (!bus.finish(event)) continue;
      if (event.agent == BusAgent::kCompute) return queue.now();
      act();
    }
    FAIL("the compute flow did not end");
    return {};
  }

  TEST_CASE("compute has the cores that are left, for as long as a lane is at work") {
    EventQueue<SimEvent> queue;
    MemoryBus bus(to_rate(100), queue);
    CoreUse cores(5, 4, bus);
    cores.begin();  // five at work on five cores
    bus.begin(BusAgent::kCompute, 4 * kSecond, to_rate(8));
    bus.begin(BusAgent::kFlash, 2 * kSecond, to_rate(1));
    cores.begin();  // six: five sixths of the rate, for 2 s
    const TimePoint end = compute_end(queue, bus, [&] { cores.end(); });
    CHECK(to_seconds(end.time_since_epoch()) == doctest::Approx(6 - 2 * 5.0 / 6));
    CHECK(cores.busy_lanes() == 1);
  }

  TEST_CASE("what begins while lanes are at work is slower from its beginning") {
    EventQueue<SimEvent> queue;
    MemoryBus bus(to_rate(100), queue);
    CoreUse cores(4, 4, bus);
    cores.begin();
    cores.begin();
    bus.begin(BusAgent::kCompute, kSecond, to_rate(8));
    const TimePoint end = compute_end(queue, bus, [] {});
    CHECK(to_seconds(end.time_since_epoch()) == doctest::Approx(1.5));
  }

  TEST_CASE("another agent than the CPU does not notice") {
    EventQueue<SimEvent> queue;
    MemoryBus bus(to_rate(100), queue);
    CoreUse cores(4, 4, bus);
    cores.begin();
    bus.begin(BusAgent::kCompute, kSecond, to_rate(8), false);
    CHECK(compute_end(queue, bus, [] {}) == TimePoint{kSecond});
  }

  TEST_CASE("threads beyond the cores count as many as there are") {
    EventQueue<SimEvent> queue;
    MemoryBus bus(to_rate(100), queue);
    CoreUse cores(4, 8, bus);
    CHECK(cores.share().left == cores.share().of);
    for (int lane = 0; lane < 6; ++lane) cores.begin();
    CHECK(cores.share().left == 4);
    CHECK(cores.share().of == 10);
    for (int lane = 0; lane < 6; ++lane) cores.end();
    CHECK(cores.share().left == cores.share().of);
    CHECK(CoreUse::lane_share(4, 8, 4) == 0.5);
    CHECK(CoreUse::lane_share(8, 4, 4) == 1);
  }

  TEST_CASE("who needs it") {
    CHECK_FALSE(CoreUse::is_needed(0, 4, 4));
    CHECK_FALSE(CoreUse::is_needed(8, 4, 4));
    CHECK(CoreUse::is_needed(7, 4, 4));
  }

  // Compute of a run with four threads and two lanes on so many cores; 0: not stated.
  static Duration compute_on(std::size_t cores, const char* overlap) {
    Scenario scenario(32);
    scenario.config["execution"]["overlap"] = overlap;
    if (cores > 0) {
      scenario.config["device"]["cpu"]["cores"] = Json::array({{{"count", cores}, {"ghz", 2.0}}});
    }
    return scenario.run().result.time->parts[static_cast<std::size_t>(TimePart::kCompute)];
  }

  TEST_CASE("a run loses cores only where threads and lanes are more, and work at once") {
    const Duration free = compute_on(0, "expert");
    CHECK(compute_on(8, "expert") == free);
    CHECK(compute_on(6, "expert") == free);
    const Duration five = compute_on(5, "expert");
    CHECK(five > free);
    CHECK(compute_on(4, "expert") > five);
    // Without overlap nothing is computed while lanes read.
    CHECK(compute_on(4, "none") == compute_on(0, "none"));
  }

  // Mean time with overlap over that without, four threads and four lanes on four cores, reads that
  // the lanes' own work holds up.
  static double gain_of_overlap(std::size_t experts) {
    std::array<double, 2> mean{};
    for (const bool overlap : {false, true}) {
      Scenario scenario(64);
      Json& device = scenario.config["device"];
      device["cpu"]["cores"] = Json::array({{{"count", 4}, {"ghz", 2.0}}});
      device["flash"]["host_delay_us"] = 800;
      device["cpu"]["f16_kernel_gbps"] = 2.0;
      scenario.config["execution"]["lanes"] = 4;
      scenario.config["execution"]["threads"] = 4;
      scenario.config["execution"]["overlap"] = overlap ? "expert" : "none";
      scenario.config["cache"] = {{"capacity_experts", experts}};
      mean[overlap ? 1 : 0] = scenario.run().result.time->tpot_ms.mean;
    }
    return mean[1] / mean[0];
  }

  TEST_CASE("overlap helps with a warm cache and can lose with none, on as few cores as threads") {
    CHECK(gain_of_overlap(12) < 1);
    CHECK(gain_of_overlap(0) > 1);
  }
}

}  // namespace moesim::test
