#include "engine/memory_bus.h"

#include "support/testing.h"

namespace moesim::test {

TEST_SUITE("engine/memory_bus") {
  // Runs the queue until `agent` has finished; returns when.
  TimePoint end_of(BusAgent agent, EventQueue<SimEvent> & queue, MemoryBus & bus) {
    while (!queue.empty()) {
      const SimEvent event = queue.pop();
      if (bus.finish(std::get<BusDone>(event)) && std::get<BusDone>(event).agent == agent) break;
    }
    return queue.now();
  }

  constexpr Duration kSecond{1'000'000'000'000};

  TEST_CASE("flows whose caps fit run at full speed") {
    EventQueue<SimEvent> queue;
    MemoryBus bus(to_rate(10), queue);
    bus.begin(BusAgent::kCompute, kSecond, to_rate(6));
    bus.begin(BusAgent::kFlash, 2 * kSecond, to_rate(4));
    CHECK(end_of(BusAgent::kCompute, queue, bus) == TimePoint{kSecond});
    CHECK(end_of(BusAgent::kFlash, queue, bus) == TimePoint{2 * kSecond});
  }

  TEST_CASE("a flow slows down while another takes its share, and no longer") {
    EventQueue<SimEvent> queue;
    MemoryBus bus(to_rate(10), queue);
    // Alone 10 GB/s; beside a flow of 2.5 GB/s it gets 7.5 for the second that that one takes.
    bus.begin(BusAgent::kCompute, 2 * kSecond, to_rate(10));
    bus.begin(BusAgent::kFlash, kSecond, to_rate(2.5));
    CHECK(end_of(BusAgent::kFlash, queue, bus) == TimePoint{kSecond});
    // 20 GB in all, 7.5 moved in the first second, 12.5 left at 10 GB/s.
    CHECK(end_of(BusAgent::kCompute, queue, bus) == TimePoint{kSecond + 5 * kSecond / 4});
  }

  TEST_CASE("a flow that wants more than there is gets what there is") {
    EventQueue<SimEvent> queue;
    MemoryBus bus(to_rate(5), queue);
    bus.begin(BusAgent::kFlash, kSecond, to_rate(20));
    CHECK(end_of(BusAgent::kFlash, queue, bus) == TimePoint{4 * kSecond});
  }

  TEST_CASE("the end of a plan that was changed is no end") {
    EventQueue<SimEvent> queue;
    MemoryBus bus(to_rate(10), queue);
    bus.begin(BusAgent::kCompute, kSecond, to_rate(10));
    bus.begin(BusAgent::kFlash, kSecond, to_rate(10));
    std::size_t ends = 0;
    while (!queue.empty()) ends += bus.finish(std::get<BusDone>(queue.pop())) ? 1U : 0U;
    CHECK(ends == 2);
    CHECK(queue.now() == TimePoint{2 * kSecond});
  }
}

TEST_SUITE("engine/event_queue") {
  TEST_CASE("events fire by time, then in the order in which they were scheduled") {
    EventQueue<int> queue;
    queue.schedule(Duration{5}, 1);
    queue.schedule(Duration{3}, 2);
    queue.schedule(Duration{5}, 3);
    queue.schedule(Duration{3}, 4);
    std::vector<int> order;
    while (!queue.empty()) order.push_back(queue.pop());
    CHECK(order == std::vector{2, 4, 1, 3});
    CHECK(queue.now() == TimePoint{Duration{5}});
    CHECK_THROWS_AS(queue.schedule(Duration{-1}, 5), InvariantError);
    CHECK(contains(user_error_of([&] { queue.schedule(Duration::max(), 6); }), "106 days"));
  }
}

}  // namespace moesim::test
