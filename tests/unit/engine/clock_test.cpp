// The clock of the CPU: what follows it and what does not.
#include "engine/task_costs.h"
#include "support/scenario.h"

namespace moesim::test {

TEST_SUITE("engine/clock") {
  // A device whose rates hold at 2 GHz.
  static Scenario clocked(std::size_t tokens = 8) {
    Scenario scenario(tokens);
    scenario.config["device"]["cpu"]["clock_ghz"] = 2.0;
    scenario.config["device"]["provenance"]["/cpu/clock_ghz"] = {{"tag", "estimate"},
                                                                 {"source", "a test"}};
    return scenario;
  }

  static Duration part(const RunReport& report, TimePart of) {
    return report.result.time->parts[static_cast<std::size_t>(of)];
  }

  TEST_CASE("half the clock doubles what a kernel bounds and leaves what DRAM bounds") {
    Scenario scenario = clocked();
    scenario.config["weights"] = {{"expert_bits", 4}};
    scenario.config["device"]["cpu"]["q4_kernel_gbps"] = 5.0;
    const auto plan_at = [&](const Json& clock) {
      scenario.config["execution"]["clock_ghz"] = clock;
      return scenario.plan();
    };
    const auto full = plan_at(2.0);
    const auto half = plan_at(1.0);
    const std::uint64_t bytes = full->expert_bytes()[0];
    const ComputeCost fast = full->costs()->expert(TaskKind::kExpert, bytes, 1);
    const ComputeCost slow = half->costs()->expert(TaskKind::kExpert, bytes, 1);
    CHECK(fast.rate == to_rate(5.0));
    CHECK(slow.rate == to_rate(2.5));
    CHECK(slow.nominal == transfer_time(bytes, to_rate(2.5)));
    // Dense weights of 16 bits have no kernel rate here: DRAM bounds them at any clock.
    Task task{};
    task.kind = TaskKind::kAttention;
    const ComputeCost attention = half->costs()->task(task, 0, 1);
    CHECK(attention.rate == to_rate(20.0));
    CHECK(attention.nominal == full->costs()->task(task, 0, 1).nominal);
    CHECK(attention.fixed == from_us(100));
    CHECK(full->costs()->task(task, 0, 1).fixed == from_us(50));
    CHECK(half->costs()->admission(bytes) == 2 * full->costs()->admission(bytes));
  }

  TEST_CASE("the clock changes at once, costs met before included") {
    Scenario scenario = clocked();
    scenario.config["weights"] = {{"expert_bits", 4}};
    scenario.config["device"]["cpu"]["q4_kernel_gbps"] = 5.0;
    const auto plan = scenario.plan();
    TaskCosts costs = *plan->costs();
    const std::uint64_t bytes = plan->expert_bytes()[0];
    CHECK(costs.expert(TaskKind::kExpert, bytes, 1).rate == to_rate(5.0));
    costs.set_clock(0.5);
    CHECK(costs.expert(TaskKind::kExpert, bytes, 1).rate == to_rate(2.5));
    costs.set_clock(1);
    CHECK(costs.expert(TaskKind::kExpert, bytes, 1).rate == to_rate(5.0));
  }

  TEST_CASE("the host's part of a read follows the clock, the device's does not") {
    Scenario scenario = clocked(1);
    scenario.config["execution"]["lanes"] = 1;
    const Duration full = part(scenario.run(), TimePart::kFlashStall);
    scenario.config["execution"]["clock_ghz"] = 1.0;
    // 16 experts of three reads, 100 us of the host each.
    CHECK(part(scenario.run(), TimePart::kFlashStall) == full + 48 * from_us(100));
    scenario.config["execution"]["clock_ghz"] = 2.0;
    CHECK(part(scenario.run(), TimePart::kFlashStall) == full);
  }

  TEST_CASE("the configuration in force names the clock") {
    Scenario scenario = clocked();
    CHECK(scenario.plan()->config().resolved["execution"]["clock_ghz"] == 2.0);
    scenario.config["execution"]["clock_ghz"] = 1.5;
    CHECK(scenario.plan()->config().resolved["execution"]["clock_ghz"] == 1.5);
    CHECK(scenario.plan()->config().resolved["execution"]["thermal"] == "off");
    CHECK(Scenario(8).plan()->config().resolved["execution"]["clock_ghz"].is_null());
  }

  TEST_CASE("a clock that says nothing is refused") {
    Scenario scenario(8);
    scenario.config["execution"]["clock_ghz"] = 1.0;
    CHECK(contains(user_error_of([&] { static_cast<void>(scenario.plan()); }),
                   "/execution/clock_ghz: expected none, because the device"));
    Scenario without(8);
    without.config["device"] = nullptr;
    without.config["execution"]["clock_ghz"] = 1.0;
    CHECK(contains(user_error_of([&] { static_cast<void>(without.plan()); }),
                   "/execution/clock_ghz: expected none without a device"));
    Scenario zero = clocked();
    zero.config["execution"]["clock_ghz"] = 0;
    CHECK(contains(user_error_of([&] { static_cast<void>(zero.plan()); }),
                   "/execution/clock_ghz: expected a number"));
  }
}

}  // namespace moesim::test
