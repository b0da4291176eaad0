// Work on an NPU or a GPU, and what each agent takes.
#include <numeric>

#include "support/scenario.h"

namespace moesim::test {

TEST_SUITE("engine/agents") {
  static Scenario with_npu(std::size_t tokens) {
    Scenario scenario(tokens);
    Json& device = scenario.config["device"];
    device["agents"] = {{"npu",
                         {{"dram_gbps", 10},
                          {"launch_us", 7},
                          {"sync_us", 30},
                          {"q4_kernel_gbps", 4},
                          {"j_per_gb", 0.1}}},
                        {"gpu", {{"dram_gbps", 15}}}};
    device["provenance"]["/agents"] = {{"tag", "estimate"}, {"source", "a test"}};
    return scenario;
  }

  static Duration part(const RunReport& report, TimePart of) {
    return report.result.time->parts[static_cast<std::size_t>(of)];
  }

  constexpr std::uint64_t kExpertBytes = std::uint64_t{3} * 256 * 512 * 2;

  TEST_CASE("an operator of another agent costs its launch, and a change of agent its sync") {
    Scenario scenario = with_npu(1);
    const RunReport cpu = scenario.run();
    scenario.config["execution"]["agents"] = {{"experts", "npu"}};
    const RunReport npu = scenario.run();
    // 16 experts; in each of four layers to the NPU and back.
    CHECK(part(npu, TimePart::kOverhead) ==
          part(cpu, TimePart::kOverhead) + 16 * from_us(7) + 8 * from_us(30));
    CHECK(
        part(npu, TimePart::kCompute) - part(cpu, TimePart::kCompute) ==
        16 * (transfer_time(kExpertBytes, to_rate(10)) - transfer_time(kExpertBytes, to_rate(20))));
    CHECK(part(npu, TimePart::kFlashStall) == part(cpu, TimePart::kFlashStall));
  }

  TEST_CASE("everything on one agent is launched and never synchronised but once") {
    Scenario scenario = with_npu(1);
    scenario.config["execution"]["agents"] = {{"dense", "npu"}, {"experts", "npu"}};
    // Four layers of attention and router, 16 experts, the head; the CPU hands over once.
    CHECK(part(scenario.run(), TimePart::kOverhead) ==
          4 * from_us(50) + (4 + 4 + 16 + 1) * from_us(7) + from_us(30));
  }

  TEST_CASE("a kernel rate of the agent holds at any clock of the CPU") {
    Scenario scenario = with_npu(1);
    Json& cpu = scenario.config["device"]["cpu"];
    cpu["clock_ghz"] = 2.0;
    scenario.config["weights"] = {{"expert_bits", 4}};
    scenario.config["execution"]["agents"] = {{"experts", "npu"}};
    scenario.config["execution"]["clock_ghz"] = 1.0;
    const auto plan = scenario.plan();
    CHECK(plan->costs()->expert(TaskKind::kExpert, kExpertBytes / 4, 1).rate == to_rate(4));
    CHECK(plan->costs()->expert(TaskKind::kExpert, kExpertBytes / 4, 1).fixed == from_us(7));
  }

  TEST_CASE("a format that an agent has no rate for is named with it") {
    Scenario scenario = with_npu(1);
    scenario.config["execution"]["agents"] = {{"experts", "gpu"}};
    const auto plan = scenario.plan();
    CHECK(plan->costs()->formats_without_rate() ==
          std::vector<std::string>{"f16 on the gpu", "f16"});
  }

  TEST_CASE("energy adds up, and each agent answers for what went through it") {
    Scenario scenario = with_npu(32);
    const EnergyResult cpu = *scenario.run().result.energy;
    scenario.config["execution"]["agents"] = {{"experts", "npu"}};
    const RunResult result = scenario.run().result;
    const EnergyResult& energy = *result.energy;
    CHECK(energy.by_component.size() == 5);
    const double sum =
        std::accumulate(energy.by_component.begin(), energy.by_component.end(), 0.0,
                        [](double all, const auto& component) { return all + component.second; });
    CHECK(energy.j_per_token == doctest::Approx(sum).epsilon(1e-12));
    const double experts_gb = static_cast<double>(16 * kExpertBytes) * 1e-9;
    CHECK(energy.by_component.at("npu") == doctest::Approx(experts_gb * 0.1));
    CHECK(cpu.by_component.at("cpu") - energy.by_component.at("cpu") ==
          doctest::Approx(experts_gb * 0.2));
    CHECK(energy.by_component.at("platform") ==
          doctest::Approx(to_seconds(result.time->wall) * 1.0 / 32));
    CHECK(energy.by_component.at("flash") == cpu.by_component.at("flash"));
  }

  TEST_CASE("without j_per_gb of an agent in use no energy is reported, with a note") {
    Scenario scenario = with_npu(8);
    scenario.config["execution"]["agents"] = {{"dense", "gpu"}};
    const RunResult result = scenario.run().result;
    CHECK_FALSE(result.energy.has_value());
    CHECK(result.notes.back() == "energy is not simulated: the device has no j_per_gb of its gpu");
  }

  TEST_CASE("an agent that the device does not have is refused") {
    Scenario scenario = with_npu(8);
    scenario.config["execution"]["agents"] = {{"dense", "tpu"}};
    CHECK(contains(user_error_of([&] { static_cast<void>(scenario.plan()); }),
                   "/execution/agents/dense: unknown value \"tpu\"; known: cpu, gpu, npu"));
    scenario.config["execution"]["agents"] = {{"heads", "npu"}};
    CHECK(contains(user_error_of([&] { static_cast<void>(scenario.plan()); }),
                   "/execution/agents/heads"));
  }

  TEST_CASE("threads beyond the optimum of a device slow what a kernel bounds") {
    Scenario scenario(1);
    scenario.config["weights"] = {{"expert_bits", 4}};
    scenario.config["device"]["cpu"]["q4_kernel_gbps"] = 5.0;
    scenario.config["device"]["cpu"]["thread_scaling"] = {{4, 1.0}, {8, 0.5}};
    scenario.config["execution"]["threads"] = 8;
    CHECK(scenario.plan()->costs()->expert(TaskKind::kExpert, kExpertBytes / 4, 1).rate ==
          to_rate(2.5));
  }
}

}  // namespace moesim::test
