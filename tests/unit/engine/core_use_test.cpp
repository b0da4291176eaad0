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
    cores.begin();  // four cores left for four threads
    bus.begin(BusAgent::kCompute, 4 * kSecond, to_rate(8));
    bus.begin(BusAgent::kFlash, 2 * kSecond, to_rate(1));
    cores.begin();  // three left: three quarters of the rate, for 2 s
    const TimePoint end = compute_end(queue, bus, [&] { cores.end(); });
    CHECK(end == TimePoint{2 * kSecond + 4 * kSecond - kSecond * 3 / 2});
    CHECK(cores.busy_lanes() == 1);
  }

  TEST_CASE("what begins while lanes are at work is slower from its beginning") {
    EventQueue<SimEvent> queue;
    MemoryBus bus(to_rate(100), queue);
    CoreUse cores(4, 4, bus);
    cores.begin();
    cores.begin();
    bus.begin(BusAgent::kCompute, kSecond, to_rate(8));
    CHECK(compute_end(queue, bus, [] {}) == TimePoint{2 * kSecond});
  }

  TEST_CASE("another agent than the CPU does not notice") {
    EventQueue<SimEvent> queue;
    MemoryBus bus(to_rate(100), queue);
    CoreUse cores(4, 4, bus);
    cores.begin();
    bus.begin(BusAgent::kCompute, kSecond, to_rate(8), false);
    CHECK(compute_end(queue, bus, [] {}) == TimePoint{kSecond});
  }

  TEST_CASE(
      "lanes beyond the cores leave one, and threads beyond them count as many as there are") {
    EventQueue<SimEvent> queue;
    MemoryBus bus(to_rate(100), queue);
    CoreUse cores(4, 8, bus);
    CHECK(cores.left() == 4);
    for (int lane = 0; lane < 6; ++lane) cores.begin();
    CHECK(cores.left() == 1);
    for (int lane = 0; lane < 6; ++lane) cores.end();
    CHECK(cores.left() == 4);
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
}

}  // namespace moesim::test
