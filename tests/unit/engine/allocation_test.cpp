// Experts of unequal size: weights.allocation in cache, flash and compute.
#include <algorithm>
#include <numeric>

#include "engine/task_costs.h"
#include "report/run_report.h"
#include "support/scenario.h"

namespace moesim::test {
namespace {

constexpr std::uint64_t kParams = 3 * 256 * 512;  // of an expert of the scenario's model

// 2, 4 or 8 bits, in a pattern that differs from layer to layer.
Json mixed_bits() {
  Json layers = Json::array();
  for (int layer = 0; layer < 4; ++layer) {
    Json row = Json::array();
    for (int expert = 0; expert < 16; ++expert) row.push_back(2 << (expert + layer) % 3);
    layers.push_back(row);
  }
  return layers;
}

Json equal_bits(double bits) { return Json(4, Json(16, Json(bits))); }

Scenario allocated(const Json& bits, double overhead = 0, std::size_t tokens = 64) {
  Scenario scenario(tokens);
  scenario.config["weights"] = {{"allocation", {{"bits", bits}, {"overhead_bits", overhead}}}};
  scenario.config["device"]["cpu"]["q2_kernel_gbps"] = 2.0;
  scenario.config["device"]["cpu"]["q4_kernel_gbps"] = 5.0;
  scenario.config["device"]["cpu"]["q8_kernel_gbps"] = 9.0;
  scenario.config["device"]["cpu"]["f16_kernel_gbps"] = 12.0;
  return scenario;
}

// Adds up what an observer can see of the demand.
class Demand final : public RunObserver {
 public:
  explicit Demand(RunPlan& plan) : plan_(plan) {}
  void on_visit(const Pass& /*pass*/, LayerId layer, const VisitOutcome& visit,
                TimePoint /*at*/) override {
    for (const Access& access : visit.accesses) {
      const std::size_t key = index(layer) * 16 + index(access.expert);
      if (access.kind == AccessKind::kMiss) missed_bytes += plan_.expert_bytes()[key];
    }
    const ExpertCache& cache = plan_.session().cache();
    for (std::size_t part = 0; part < cache.partitions(); ++part) {
      within_capacity = within_capacity && cache.used(part) <= cache.capacity();
    }
  }
  std::uint64_t missed_bytes = 0;
  bool within_capacity = true;

 private:
  RunPlan& plan_;
};

std::string refusal(const Json& allocation) {
  Scenario scenario(4);
  scenario.config["weights"] = {{"allocation", allocation}};
  return user_error_of([&] { static_cast<void>(scenario.plan()); });
}

}  // namespace

TEST_SUITE("engine/allocation") {
  TEST_CASE("the same bits for every expert are weights.expert_bits") {
    Scenario by_allocation = allocated(equal_bits(4), 0.5);
    Scenario by_bits = by_allocation;
    by_bits.config["weights"] = {{"expert_bits", 4.5}};
    for (const char* overlap : {"none", "projection"}) {
      by_allocation.config["execution"]["overlap"] = overlap;
      by_bits.config["execution"]["overlap"] = overlap;
      const Json one = result_json(by_allocation.run());
      const Json other = result_json(by_bits.run());
      for (const char* block : {"throughput", "time_ms_per_token", "cache", "flash", "weights",
                                "bounds", "memory", "energy", "warnings"}) {
        CAPTURE(block);
        CHECK(one.at(block) == other.at(block));
      }
    }
  }

  TEST_CASE("each expert has its own size in the result, in flash and in a cache of bytes") {
    Scenario scenario = allocated(mixed_bits(), 0.5);
    scenario.config["cache"] = {{"capacity_mib", 7}};
    const RunReport report = scenario.run();
    const Json json = result_json(report);
    CHECK(json.at("weights").at("expert_bytes").at("min") == kParams * 5 / 16);
    CHECK(json.at("weights").at("expert_bytes").at("max") == kParams * 17 / 16);
    const auto plan = scenario.plan();
    const auto& bytes = plan->expert_bytes();
    const auto all = std::accumulate(bytes.begin(), bytes.end(), std::uint64_t{0});
    CHECK(json.at("weights").at("expert_bytes").at("mean").get<double>() ==
          doctest::Approx(static_cast<double>(all) / 64));
    CHECK(json.at("weights").at("expert_bits").get<double>() ==
          doctest::Approx(static_cast<double>(all) * 8 / (64.0 * kParams)));
    CHECK(json.at("flash").at("bytes") == json.at("cache").at("bytes_read"));
    Demand demand(*plan);
    plan->simulation()->run(0, plan->schedule().passes.size(), &demand, false);
    plan->simulation()->drain();
    CHECK(demand.missed_bytes == json.at("cache").at("bytes_read").get<std::uint64_t>());
    CHECK(demand.within_capacity);
    CHECK(report.result.cache.hits > 0);
    CHECK(report.result.cache.evictions > 0);
  }

  TEST_CASE("a capacity in experts and a token cycle count the mean size of each layer") {
    Json bits = equal_bits(2);
    for (std::size_t expert = 0; expert < 8; ++expert) bits[1][expert] = 8;
    Scenario scenario = allocated(bits);
    const auto plan = scenario.plan();  // k = 4, capacity 8 per layer
    const std::uint64_t two = kParams * 2 / 8;
    const std::uint64_t five = kParams * 5 / 8;
    CHECK(plan->token_cycle_bytes() == 4 * (3 * two + five));
    CHECK(plan->cache_bytes() == 8 * (3 * two + five));
    scenario.config["cache"] = {{"capacity_experts", 32}, {"scope", "global"}};
    CHECK(scenario.plan()->cache_bytes() == 8 * (3 * two + five));
  }

  TEST_CASE("an expert computes at the kernel rate of its own format") {
    const MoeModel model = read_model(Section(scenario_model(), "m", ""));
    Json device_json = scenario_device();
    device_json["cpu"]["q2_kernel_gbps"] = 2.0;
    device_json["cpu"]["q8_kernel_gbps"] = 9.0;
    const Device device = read_device(Section(device_json, "d", ""));
    ExecutionOptions execution;
    execution.threads = 4;
    const std::vector<ExpertFormat> formats{{1000, 2}, {4000, 8}, {2000, 4}};
    WeightBits bits;
    bits.dense = 8;
    const TaskCosts costs(model, device, bits, execution, formats);
    CHECK(costs.expert(TaskKind::kExpert, 1000, 1).rate == to_rate(2));
    CHECK(costs.expert(TaskKind::kExpert, 4000, 1).rate == to_rate(9));
    CHECK(costs.expert(TaskKind::kExpert, 1000, 1).nominal == transfer_time(1000, to_rate(2)));
    CHECK(costs.expert(TaskKind::kExpert, 1000, 2).rate == to_rate(1));
    CHECK(costs.expert(TaskKind::kExpert, 2000, 1).rate == to_rate(20));  // DRAM
    // Only what is used is missed: no expert has the 16 bits of WeightBits.
    CHECK(costs.formats_without_rate() == std::vector<std::string>{"q4"});
    CHECK_THROWS_AS(static_cast<void>(costs.expert(TaskKind::kExpert, 3000, 1)), InvariantError);
  }

  TEST_CASE("a prefill reads the union at each expert's size") {
    TraceData trace = random_logits({24, 4, 16}, 4, 5);
    trace.phase.assign(24, 1);
    std::fill_n(trace.phase.begin(), 10, std::uint8_t{0});
    Scenario scenario(trace);
    scenario.config["weights"] = {{"allocation", {{"bits", mixed_bits()}}}};
    scenario.config["cache"] = {{"capacity_experts", 16}};
    const auto plan = scenario.plan();
    Demand demand(*plan);
    plan->simulation()->run(0, 1, &demand, false);
    const RunResult result = scenario.run().result;
    CHECK(result.prefill.demand_bytes == demand.missed_bytes);
    CHECK(result.prefill.demand_bytes > 0);
  }

  TEST_CASE("with unequal sizes the offline bound is labelled a heuristic") {
    const auto is_labelled = [](const Scenario& scenario) {
      const auto warnings = scenario.run().result.warnings;
      return std::any_of(warnings.begin(), warnings.end(), [](const std::string& warning) {
        return contains(warning, "farthest next use is a heuristic");
      });
    };
    Scenario scenario = allocated(mixed_bits());
    scenario.config["cache"] = {{"capacity_mib", 7}};
    CHECK(is_labelled(scenario));
    scenario.config["weights"]["allocation"]["bits"] = equal_bits(4);
    CHECK(!is_labelled(scenario));
  }

  TEST_CASE("an allocation takes the place of recorded sizes, with a warning") {
    TraceData trace = random_logits({8, 4, 16}, 4, 5);
    trace.expert_bytes.assign(4, 7777);
    Scenario scenario(trace);
    scenario.config["weights"] = {{"allocation", {{"bits", equal_bits(4)}}}};
    const auto plan = scenario.plan();
    CHECK(plan->expert_bytes().front() == kParams / 2);
    CHECK(std::count_if(plan->warnings().begin(), plan->warnings().end(), [](const auto& warning) {
            return contains(warning, "weights.allocation takes their place");
          }) == 1);
  }

  TEST_CASE("what does not fit is refused with its place") {
    CHECK(contains(refusal({{"bits", Json(3, Json(16, Json(2)))}}),
                   "/weights/allocation/bits: expected 4 layers of 16 experts as in the trace "
                   "trace.safetensors, got 3 of 16"));
    CHECK(contains(refusal("nothing.json"), "/weights/allocation: "));
    CHECK(contains(refusal("nothing.json"), "no such file"));
    CHECK(contains(refusal(3), "/weights/allocation: expected a string, got 3"));
    Scenario scenario(4);
    scenario.config["weights"] = {{"allocation", {{"bits", equal_bits(4)}}}};
    scenario.config.erase("model");
    scenario.config.erase("device");
    CHECK(contains(user_error_of([&] { static_cast<void>(scenario.plan()); }),
                   "/weights/allocation: expected a model"));
  }
}

}  // namespace moesim::test
