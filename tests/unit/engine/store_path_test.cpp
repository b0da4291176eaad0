#include "engine/store_path.h"

#include "support/testing.h"

namespace moesim::test {
namespace {

constexpr ExpertKey kExpert{5};
const ReadSizes kReads{{1'000'000'000, 0, 0}, 1};

// A link of 10 GB/s and 1 ms, a link of 4 GB/s, flash of 1 GB/s: 101 ms, 250 ms and 1000 ms a GB.
Device three_hops() {
  Device device;
  TierSpec near;
  near.name = "near";
  near.capacity_mib = 100;
  near.link = {10, 1000, 0};
  TierSpec far;
  far.name = "far";
  far.capacity_mib = 200;
  far.link = {4, 0, 0};
  device.tiers = {near, far};
  device.flash.emplace();
  device.flash->bw_gbps = 1;
  device.dram.total_gbps = 100;
  return device;
}

using Arrival = std::pair<std::uint32_t, std::int64_t>;  // transfer, ms

// All times of this machine are whole milliseconds; others come out as -1.
std::int64_t whole_ms(Duration time) {
  const Duration ms = from_us(1000);
  return time % ms == Duration::zero() ? time / ms : -1;
}

// Runs the store until nothing is left; remembers when transfers arrived.
struct Machine {
  explicit Machine(const Device& device, const FlashPathOptions& with = options())
      : bus(to_rate(device.dram.total_gbps), queue), store(device, with, 16, queue, bus) {}

  static FlashPathOptions options() {
    FlashPathOptions options;
    options.records = 64;
    options.experts = 8;
    return options;
  }

  void on(const HostDone& event) { store.host_done(event); }
  void on(const FixedDone&) {}
  void on(const BusDone& event) {
    if (bus.finish(event)) note(store.service_done(0));
  }
  void on(const HopDone& event) { note(store.service_done(event.hop)); }
  void on(const CopyDone& event) { note(store.copy_done(event)); }

  void note(std::optional<std::uint32_t> transfer) {
    if (transfer) {
      arrived.push_back({*transfer, whole_ms(queue.now().time_since_epoch())});
      store.release(*transfer);
    }
    store.start_reads();
  }
  void run() {
    store.start_reads();
    run_events(queue, *this, [] { return false; });
  }
  void run_until(double ms) {
    store.start_reads();
    queue.schedule(from_us(ms * 1000), FixedDone{});
    run_events(queue, *this, [&] { return to_ms(queue.now().time_since_epoch()) >= ms; });
  }

  EventQueue<SimEvent> queue;
  MemoryBus bus;
  StorePath store;
  std::vector<Arrival> arrived;
};

}  // namespace

TEST_SUITE("engine/store_path") {
  TEST_CASE("a transfer takes the sum of the hops from where it begins") {
    for (const auto& [source, ms] : {std::pair{1, 101}, {2, 351}, {3, 1351}}) {
      Machine machine(three_hops());
      const auto from = static_cast<std::uint8_t>(source);
      const std::uint32_t id = machine.store.begin(kExpert, kReads, false, {}, from);
      CHECK(whole_ms(machine.store.unshared_time(kReads, id)) == ms);
      machine.run();
      REQUIRE(machine.arrived.size() == 1);
      CHECK(machine.arrived[0].second == ms);
      CHECK(machine.store.idle());
      // Each hop has moved it once.
      for (std::size_t hop = 0; hop < 3; ++hop) {
        CHECK(machine.store.hop_counts(hop).bytes == (hop < from ? 1'000'000'000U : 0U));
      }
      CHECK(machine.store.flash_counts().bytes == (source == 3 ? 1'000'000'000U : 0U));
      CHECK(whole_ms(machine.store.flash_time(kReads, from)) == (source == 3 ? 1000 : 0));
    }
  }

  TEST_CASE("hops work at the same time, each on one transfer after the other") {
    Machine machine(three_hops());
    machine.store.begin(ExpertKey{1}, kReads, false, {}, 2);
    machine.store.begin(ExpertKey{2}, kReads, false, {}, 2);
    machine.run();
    // The far link takes 250 ms each; while it moves the second, the near one moves the first.
    CHECK(machine.arrived[0].second == 351);
    CHECK(machine.arrived[1].second == 601);
  }

  TEST_CASE("demand goes before speculation on every link") {
    Machine machine(three_hops());
    machine.store.begin(ExpertKey{1}, kReads, true, {}, 1);
    machine.store.begin(ExpertKey{2}, kReads, true, {}, 1);
    const std::uint32_t demanded = machine.store.begin(ExpertKey{3}, kReads, false, {}, 1);
    machine.run();
    CHECK(machine.arrived[0] == Arrival{demanded, 101});
    CHECK(machine.arrived[2].second == 303);
  }

  TEST_CASE("a demand hurries what is read ahead, on the hop where it is and on those after") {
    Machine machine(three_hops());
    machine.store.begin(ExpertKey{1}, kReads, true, {}, 2);
    const std::uint32_t second = machine.store.begin(ExpertKey{2}, kReads, true, {}, 2);
    const std::uint32_t third = machine.store.begin(ExpertKey{3}, kReads, true, {}, 2);
    machine.run_until(1);  // the first is on the link
    machine.store.demand(third, 0);
    machine.run();
    CHECK(machine.arrived[1] == Arrival{third, 601});
    CHECK(machine.arrived[2] == Arrival{second, 851});
  }

  TEST_CASE("what is still on its way into a tier is waited for, not read again") {
    Machine machine(three_hops());
    const std::uint32_t ahead = machine.store.begin(kExpert, kReads, true, {}, 3);
    machine.run_until(500);
    const std::uint32_t late = machine.store.begin(kExpert, kReads, false, {}, 1);
    machine.store.demand(late, 0);
    machine.run();
    REQUIRE(machine.arrived.size() == 2);
    CHECK(machine.arrived[0] == Arrival{ahead, 1351});
    CHECK(machine.arrived[1] == Arrival{late, 1452});
    CHECK(machine.store.flash_counts().bytes == 1'000'000'000U);
    CHECK(machine.store.hop_counts(1).bytes == 1'000'000'000U);
    CHECK(machine.store.hop_counts(0).bytes == 2'000'000'000U);
  }

  TEST_CASE("those that wait for one arrival go on when it is in their tier") {
    Machine machine(three_hops());
    machine.store.begin(kExpert, kReads, true, {}, 3);
    const std::uint32_t near = machine.store.begin(kExpert, kReads, true, {}, 1);
    const std::uint32_t far = machine.store.begin(kExpert, kReads, true, {}, 2);
    CHECK(whole_ms(machine.store.unshared_time(kReads, far)) == 351);
    machine.run();
    REQUIRE(machine.arrived.size() == 3);
    // In the far tier after 1000 ms, in the near one after 1250, there 1351; the one that waited in
    // the near tier follows; the one from the far tier has the far link after the first.
    CHECK(machine.arrived[1] == Arrival{near, 1452});
    CHECK(machine.arrived[2] == Arrival{far, 1601});
    CHECK(machine.store.idle());
  }

  TEST_CASE("demand of one that waits hurries the one that it waits for") {
    Machine machine(three_hops());
    machine.store.begin(ExpertKey{1}, kReads, true, {}, 2);
    machine.store.begin(ExpertKey{2}, kReads, true, {}, 2);
    const std::uint32_t ahead = machine.store.begin(kExpert, kReads, true, {}, 2);
    const std::uint32_t waits = machine.store.begin(kExpert, kReads, true, {}, 1);
    machine.run_until(1);
    machine.store.demand(waits, 0);
    machine.run();
    CHECK(machine.arrived[1].first == ahead);
    CHECK(machine.arrived[2].first == waits);
  }

  TEST_CASE("only the last hop shares the memory that computes") {
    Device device = three_hops();
    device.dram.total_gbps = 5;  // the near link could do 10
    Machine machine(device);
    machine.store.begin(kExpert, kReads, false, {}, 3);
    machine.run();
    CHECK(machine.arrived[0].second == 1000 + 250 + 200);
    CHECK(machine.store.dma_bytes(10) == 10);
  }

  TEST_CASE("a last tier that holds everything is reached over its link") {
    Device device = three_hops();
    device.flash.reset();
    device.tiers[1].capacity_mib.reset();
    Machine machine(device);
    machine.store.begin(kExpert, kReads, false, {}, 2);
    machine.run();
    CHECK(machine.arrived[0].second == 351);
    CHECK(machine.store.flash_counts().reads == 0);
    CHECK(machine.store.flash_time(kReads, 2) == Duration::zero());
  }

  TEST_CASE("bounced reads go on after their copy, and only the flash knows clock and heat") {
    Device device = three_hops();
    device.flash->bounce_gbps = 2;
    const auto arrival = [&](double clock, double derate, bool bounce) {
      FlashPathOptions options = Machine::options();
      options.bounce = bounce;
      Machine machine(device, options);
      machine.store.set_clock(clock);
      machine.store.set_derate(derate);
      machine.store.begin(kExpert, kReads, false, {}, 3);
      machine.run();
      REQUIRE(machine.arrived.size() == 1);
      CHECK(machine.store.flash_counts().copy ==
            (bounce ? from_us(500'000 / clock) : Duration::zero()));
      return machine.arrived[0].second;
    };
    CHECK(arrival(1, 1, false) == 1000 + 250 + 101);
    CHECK(arrival(1, 1, true) == 1000 + 500 + 250 + 101);
    CHECK(arrival(0.5, 1, true) == 1000 + 1000 + 250 + 101);
    CHECK(arrival(1, 0.5, true) == 2000 + 500 + 250 + 101);
  }

  TEST_CASE("DRAM sees links as the device says, whether flash reads are bounced or not") {
    Device device = three_hops();
    device.dram.dma_factor = 3;
    CHECK(dma_factor_of(device, false) == 3);
    device.tiers.clear();
    CHECK(dma_factor_of(device, false) == 1);
    CHECK(dma_factor_of(device, true) == 3);
    CHECK(dma_factor_of(device, std::nullopt) == 3);
  }
}

}  // namespace moesim::test
