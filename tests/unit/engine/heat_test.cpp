// Runs of a device that gets hot.
#include <cmath>

#include "support/scenario.h"

namespace moesim::test {

TEST_SUITE("engine/heat") {
  // 2 GHz, from heat 0.5 on 1 GHz; flash at half its rate from heat 1 on.
  static Scenario heated(std::size_t tokens, double tau_s) {
    Scenario scenario(tokens);
    Json& device = scenario.config["device"];
    device["cpu"]["clock_ghz"] = 2.0;
    device["flash"]["hot_derate"] = 0.5;
    device["thermal"] = {{"tau_s", tau_s}, {"caps_ghz", {2.5, 1.0}}, {"caps_heat", {0, 0.5}}};
    device["provenance"]["/thermal"] = {{"tag", "estimate"}, {"source", "a test"}};
    return scenario;
  }

  static Duration part(const RunReport& report, TimePart of) {
    return report.result.time->parts[static_cast<std::size_t>(of)];
  }

  struct HeatPasses final : RunObserver {
    void on_pass(const PassRecord& record) override { records.push_back(record); }
    std::vector<PassRecord> records;
  };

  TEST_CASE("the clock falls with the first pass that begins after the step's time") {
    const Scenario scenario = heated(64, 0.1);
    const double step_s = 0.1 * std::log(2.0);
    const auto plan = scenario.plan();
    HeatPasses passes;
    plan->simulation()->run(0, plan->schedule().passes.size(), &passes, false);
    std::size_t slow = 0;
    for (const PassRecord& record : passes.records) {
      const double start_s = to_seconds(record.start.time_since_epoch());
      CHECK(record.clock_ghz == (start_s >= step_s ? 1.0 : 2.0));
      CHECK(record.heat == doctest::Approx(1 - std::exp(-start_s / 0.1)));
      // Overhead of four layers: 50 us each at 2 GHz.
      const Duration overhead = record.parts[static_cast<std::size_t>(TimePart::kOverhead)];
      CHECK(overhead == (start_s >= step_s ? 2 : 1) * 4 * from_us(50));
      slow += record.clock_ghz == 1.0 ? 1 : 0;
    }
    CHECK(slow > 0);
    CHECK(slow < passes.records.size());
  }

  TEST_CASE("the result says what the clock did") {
    const ThermalResult thermal = *heated(64, 0.1).run().result.thermal;
    CHECK(thermal.start == ThermalStart::kCold);
    CHECK(thermal.clock->first == 2.0);
    CHECK(thermal.clock->last == 1.0);
    CHECK(thermal.clock->min == 1.0);
    CHECK(*thermal.heat_last > 0.5);
    CHECK(*thermal.flash_derated_share == 0);
  }

  TEST_CASE("prefill heats as decoding does") {
    TraceData trace = random_logits({64, 4, 16}, 4, 1);
    trace.phase.assign(64, 1);
    std::fill_n(trace.phase.begin(), 32, std::uint8_t{0});
    Scenario scenario(trace);
    const Json device = heated(64, 0.01).config["device"];
    scenario.config["device"] = device;
    const RunResult result = scenario.run().result;
    CHECK(result.time->prefill_ms > 10 * std::log(2.0));
    CHECK(result.thermal->clock->first == 1.0);
  }

  TEST_CASE("a hot device loses flash bandwidth and clock") {
    Scenario scenario = heated(1, 100);
    scenario.config["execution"]["lanes"] = 1;
    const RunReport cold = scenario.run();
    scenario.config["execution"]["thermal"] = "sustained";
    const RunReport hot = scenario.run();
    const std::uint64_t slice = std::uint64_t{256} * 512 * 2;
    // 16 experts of three reads each.
    CHECK(part(cold, TimePart::kFlashStall) ==
          48 * (from_us(110) + transfer_time(slice, to_rate(1.0))));
    CHECK(part(hot, TimePart::kFlashStall) ==
          48 * (from_us(210) + transfer_time(slice, to_rate(0.5))));
    CHECK(part(hot, TimePart::kOverhead) == 2 * part(cold, TimePart::kOverhead));
    CHECK(part(hot, TimePart::kAdmission) == 2 * part(cold, TimePart::kAdmission));
    CHECK(part(hot, TimePart::kCompute) == part(cold, TimePart::kCompute));  // DRAM bounds it
    CHECK(*hot.result.thermal->flash_derated_share == 1);
    CHECK(*hot.result.thermal->heat_last == 1);
    CHECK(hot.result.thermal->clock->first == 1.0);
  }

  TEST_CASE("a warm start reaches a step earlier than a cold one") {
    Scenario scenario = heated(64, 1000);
    CHECK(scenario.run().result.thermal->clock->last == 2.0);
    scenario.config["execution"]["thermal"] = "warm";
    CHECK(scenario.run().result.thermal->clock->first == 1.0);
    CHECK(*scenario.run().result.thermal->flash_derated_share == 0);
  }

  TEST_CASE("off, and a clock that is held, leave the device as it is") {
    Scenario scenario = heated(64, 0.1);
    scenario.config["execution"]["thermal"] = "off";
    const RunReport off = scenario.run();
    CHECK(off.result.thermal->start == ThermalStart::kOff);
    CHECK(off.result.thermal->clock->min == 2.0);
    CHECK_FALSE(off.result.thermal->heat_last.has_value());
    CHECK(off.result.notes.empty());  // the device has the data
    scenario.config["device"].erase("thermal");
    scenario.config["device"]["provenance"].erase("/thermal");
    scenario.config["execution"].erase("thermal");
    const RunReport none = scenario.run();
    CHECK(none.result.time->wall == off.result.time->wall);
    scenario = heated(64, 0.1);
    scenario.config["execution"]["clock_ghz"] = 2.0;
    CHECK(scenario.run().result.time->wall == off.result.time->wall);
    scenario.config["execution"]["clock_ghz"] = 1.0;
    const RunReport held = scenario.run();
    CHECK(held.result.thermal->clock->first == 1.0);
    CHECK(held.result.time->wall > off.result.time->wall);
  }

  TEST_CASE("a result notes what a device has no data for") {
    Scenario scenario(8);
    CHECK(scenario.run().result.notes ==
          std::vector<std::string>{"heat is not simulated: the device has no thermal data"});
    Json& device = scenario.config["device"];
    device["thermal"] = {{"tau_s", 9}, {"caps_ghz", {1.0}}};
    device["provenance"]["/thermal"] = {{"tag", "estimate"}, {"source", "a test"}};
    device.erase("energy");
    device["provenance"].erase("/energy");
    const RunReport report = scenario.run();
    REQUIRE(report.result.notes.size() == 2);
    CHECK(contains(report.result.notes[0], "no thermal.caps_heat"));
    CHECK(report.result.notes[1] == "energy is not simulated: the device has no energy data");
    device["thermal"]["caps_heat"] = {0.5};
    CHECK(contains(scenario.run().result.notes[0], "the device has no cpu.clock_ghz"));
  }

  TEST_CASE("starts that cannot be simulated are refused") {
    Scenario scenario(8);
    const auto error = [&] { return user_error_of([&] { static_cast<void>(scenario.plan()); }); };
    scenario.config["execution"]["thermal"] = "cold";
    CHECK(contains(error(),
                   "/execution/thermal: expected off, because the device test-device has "
                   "no thermal.caps_heat"));
    scenario.config["device"] = nullptr;
    CHECK(contains(error(), "/execution/thermal: expected off without a device"));
    scenario = heated(8, 10);
    scenario.config["execution"]["thermal"] = "hot";
    CHECK(contains(error(), "/execution/thermal: unknown value \"hot\""));
    scenario.config["execution"]["thermal"] = "warm";
    scenario.config["execution"]["clock_ghz"] = 1.0;
    CHECK(contains(error(), "/execution/thermal: expected off, because clock_ghz holds the clock"));
    scenario = heated(8, 10);
    scenario.config["device"]["cpu"].erase("clock_ghz");
    scenario.config["execution"]["thermal"] = "warm";
    CHECK(contains(error(),
                   "/execution/thermal: expected none, because the device test-device has "
                   "no cpu.clock_ghz"));
  }
}

}  // namespace moesim::test
