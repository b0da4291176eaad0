// Costs of products where the device has a kernel model.
#include <cmath>

#include "engine/task_costs.h"
#include "support/scenario.h"

namespace moesim::test {
namespace {

constexpr std::uint64_t kExpert = std::uint64_t{3} * 256 * 512 * 2;  // 16 bits
constexpr double kLaunchUs = 5;

// 4 GB/s and 5 us, narrower matrices slower: r = -0.2 log2(columns / 1024).
Json curve(const char* format = "f16") {
  return {{format,
           {{{"threads", 4},
             {"launch_us", kLaunchUs},
             {"rate_gbps", 4.0},
             {"rows", {16, 1024}},
             {"columns", {128, 4096}},
             {"mib", {0.001, 64.0}},
             {"residual_range", {-2.0, 2.0}},
             {"residual", {{"columns", -0.2}}}}}}};
}

Scenario modelled() {
  Scenario scenario(8);
  scenario.config["device"]["cpu"]["kernel_model"] = curve();
  scenario.config["device"]["cpu"]["f16_kernel_gbps"] = 3.0;
  return scenario;
}

double product_us(double rows, double columns, double clock = 1) {
  return (kLaunchUs + rows * columns * 2 / 4e3 * std::exp(-0.2 * std::log2(columns / 1024))) /
         clock;
}

double us_of(const ComputeCost& cost) { return to_us(cost.fixed + cost.nominal); }

ComputeCost cost_of(const Scenario& scenario, TaskKind kind, std::uint32_t position = 0,
                    std::uint32_t tokens = 1) {
  Task task{};
  task.kind = kind;
  return scenario.plan()->costs()->task(task, position, tokens);
}

bool warns(const Scenario& scenario, const std::string& text) {
  for (const std::string& warning : scenario.run().result.warnings) {
    if (contains(warning, text)) return true;
  }
  return false;
}

}  // namespace

TEST_SUITE("engine/kernel_model_costs") {
  TEST_CASE("an expert costs what the model says of its three products") {
    const ComputeCost cost = modelled().plan()->costs()->expert(TaskKind::kExpert, kExpert, 1);
    // Gate and up are one job, so one launch less than three products.
    const double sum = 2 * product_us(512, 256) + product_us(256, 512) - kLaunchUs;
    CHECK(us_of(cost) == doctest::Approx(sum).epsilon(1e-6));
    CHECK(to_us(cost.fixed) == doctest::Approx(2 * kLaunchUs));
    CHECK(cost.bytes == kExpert);
  }

  TEST_CASE("by projection gate and up are one task, down another") {
    Scenario scenario = modelled();
    scenario.config["execution"]["overlap"] = "projection";
    const auto plan = scenario.plan();
    const ComputeCost upper = plan->costs()->expert(TaskKind::kExpert, kExpert, 1);
    CHECK(us_of(upper) == doctest::Approx(2 * product_us(512, 256) - kLaunchUs).epsilon(1e-6));
    const ComputeCost down = plan->costs()->expert(TaskKind::kExpertDown, kExpert, 1);
    CHECK(us_of(down) == doctest::Approx(product_us(256, 512)).epsilon(1e-6));
    CHECK(upper.bytes + down.bytes == kExpert);
  }

  TEST_CASE("an expert of two matrices has one upper product") {
    Scenario scenario = modelled();
    scenario.config["model"]["expert_matrices"] = 2;
    const ComputeCost cost =
        scenario.plan()->costs()->expert(TaskKind::kExpert, 2 * kExpert / 3, 1);
    CHECK(us_of(cost) ==
          doctest::Approx(product_us(512, 256) + product_us(256, 512)).epsilon(1e-6));
  }

  TEST_CASE("router, head and blocks cost what the model says of their shapes") {
    Scenario scenario = modelled();
    scenario.config["model"]["shared_expert_intermediate_size"] = 384;
    scenario.config["model"]["intermediate_size"] = 640;
    scenario.config["model"]["num_hidden_layers"] = 5;
    scenario.config["model"]["moe_layers"] = {1, 2, 3, 4};
    CHECK(us_of(cost_of(scenario, TaskKind::kRouter)) ==
          doctest::Approx(product_us(16, 256)).epsilon(1e-6));
    CHECK(us_of(cost_of(scenario, TaskKind::kHead)) ==
          doctest::Approx(product_us(1000, 256)).epsilon(1e-6));
    CHECK(
        us_of(cost_of(scenario, TaskKind::kShared)) ==
        doctest::Approx(2 * product_us(384, 256) + product_us(256, 384) - kLaunchUs).epsilon(1e-6));
    CHECK(
        us_of(cost_of(scenario, TaskKind::kDenseFfn)) ==
        doctest::Approx(2 * product_us(640, 256) + product_us(256, 640) - kLaunchUs).epsilon(1e-6));
  }

  TEST_CASE("attention is one product over its weights, and key-value bytes have its rate") {
    const Scenario scenario = modelled();
    // Queries and output 256 x 256, keys and values 128 x 256, two norms: 770 rows of 256.
    const ComputeCost cost = cost_of(scenario, TaskKind::kAttention, 9);
    const double streaming = product_us(770, 256) - kLaunchUs;
    const double kv = 10 * 2 * 128 * 2;
    const double weights = 770 * 256 * 2;
    const double overhead = 50;
    CHECK(us_of(cost) ==
          doctest::Approx(overhead + kLaunchUs + streaming * (1 + kv / weights)).epsilon(1e-5));
    CHECK(to_us(cost.fixed) == doctest::Approx(overhead + kLaunchUs));
  }

  TEST_CASE("several sequences pay one launch and multiply once a token") {
    Scenario scenario = modelled();
    const auto plan = scenario.plan();
    Task task{};
    task.kind = TaskKind::kAttention;
    const std::vector<PassToken> tokens = {{.position = 4}, {.position = 7}};
    const ComputeCost both = plan->costs()->batch_task(task, tokens);
    const ComputeCost one = plan->costs()->task(task, 4, 1);
    CHECK(both.fixed == one.fixed);
    CHECK(both.nominal > 3 * one.nominal / 2);
    task.kind = TaskKind::kHead;
    CHECK(to_integer(plan->costs()->batch_task(task, tokens).rate) ==
          to_integer(plan->costs()->task(task, 4, 1).rate) / 2);
  }

  TEST_CASE("more tokens divide the rate and pay one launch") {
    const auto plan = modelled().plan();
    const ComputeCost one = plan->costs()->expert(TaskKind::kExpert, kExpert, 1);
    const ComputeCost four = plan->costs()->expert(TaskKind::kExpert, kExpert, 4);
    CHECK(to_integer(four.rate) == to_integer(one.rate) / 4);
    CHECK(four.fixed == one.fixed);
  }

  TEST_CASE("DRAM still bounds a product") {
    Scenario scenario = modelled();
    for (const char* key : {"cpu_gbps", "cpu_core_gbps"})
      scenario.config["device"]["dram"][key] = 1;
    const ComputeCost cost = scenario.plan()->costs()->expert(TaskKind::kExpert, kExpert, 1);
    CHECK(cost.rate == to_rate(1));
    CHECK(to_us(cost.fixed) == doctest::Approx(2 * kLaunchUs));
  }

  TEST_CASE("launch and rate follow the clock") {
    const auto plan = modelled().plan();
    TaskCosts costs = *plan->costs();
    Task task{};
    for (const double clock : {0.5, 2.0}) {
      costs.set_clock(clock);
      const double sum = 2 * product_us(512, 256) + product_us(256, 512) - kLaunchUs;
      CHECK(us_of(costs.expert(TaskKind::kExpert, kExpert, 1)) ==
            doctest::Approx(sum / clock).epsilon(1e-6));
      task.kind = TaskKind::kRouter;
      CHECK(us_of(costs.task(task, 0, 1)) ==
            doctest::Approx(product_us(16, 256, clock)).epsilon(1e-6));
      task.kind = TaskKind::kAttention;
      CHECK(to_us(costs.task(task, 0, 1).fixed) == doctest::Approx((50 + kLaunchUs) / clock));
    }
  }

  TEST_CASE("formats and thread counts that it does not know have their rate") {
    Scenario scenario = modelled();
    scenario.config["execution"]["threads"] = 2;
    const ComputeCost halved = scenario.plan()->costs()->expert(TaskKind::kExpert, kExpert, 1);
    CHECK(halved.rate == to_rate(1.5));
    CHECK(halved.fixed == Duration::zero());
    CHECK(cost_of(scenario, TaskKind::kRouter).fixed == Duration::zero());

    scenario = modelled();
    scenario.config["device"]["cpu"]["q4_kernel_gbps"] = 2.5;
    scenario.config["weights"] = {{"expert_bits", 4.5}};
    const auto plan = scenario.plan();
    const ComputeCost q4 =
        plan->costs()->expert(TaskKind::kExpert, std::uint64_t{kExpert} * 9 / 32, 1);
    CHECK(q4.rate == to_rate(2.5));
    CHECK(q4.fixed == Duration::zero());
    CHECK(to_us(cost_of(scenario, TaskKind::kRouter).fixed) == doctest::Approx(kLaunchUs));
  }

  TEST_CASE("bits per weight of a format change the bytes, not its rate") {
    Scenario scenario = modelled();
    scenario.config["device"]["cpu"]["kernel_model"] = curve("q4");
    const auto rate = [&](double bits) {
      scenario.config["weights"] = {{"expert_bits", bits}};
      const auto plan = scenario.plan();
      const std::uint64_t bytes = bytes_of(kExpert / 2, bits);
      return plan->costs()->expert(TaskKind::kExpert, bytes, 1).rate;
    };
    CHECK(rate(4.5) == rate(4.85));
    CHECK(rate(4.5) != to_rate(3.0));
  }

  TEST_CASE("experts of a recorded size have the rate, or the model's where there is none") {
    Scenario scenario = modelled();
    const auto cost = [&] {
      return scenario.plan()->costs()->expert(TaskKind::kExpert, kExpert / 2, 1);
    };
    CHECK(cost().rate == to_rate(3.0));
    CHECK(cost().fixed == Duration::zero());
    scenario.config["device"]["cpu"].erase("f16_kernel_gbps");
    const ComputeCost whole = scenario.plan()->costs()->expert(TaskKind::kExpert, kExpert, 1);
    CHECK(cost().rate == whole.rate);
    CHECK(cost().fixed == whole.fixed);
    CHECK(scenario.plan()->costs()->formats_without_rate().empty());
  }

  TEST_CASE("other agents than the CPU have rates alone") {
    Scenario scenario = modelled();
    scenario.config["device"]["agents"] = {
        {"npu", {{"dram_gbps", 15.0}, {"f16_kernel_gbps", 12.0}, {"launch_us", 30}}}};
    scenario.config["device"]["provenance"]["/agents"] = {{"tag", "estimate"},
                                                          {"source", "a test"}};
    scenario.config["execution"]["agents"] = {{"experts", "npu"}};
    const ComputeCost cost = scenario.plan()->costs()->expert(TaskKind::kExpert, kExpert, 1);
    CHECK(cost.rate == to_rate(12.0));
    CHECK(cost.fixed == from_us(30));
    CHECK(to_us(cost_of(scenario, TaskKind::kRouter).fixed) == doctest::Approx(kLaunchUs));
  }

  TEST_CASE("a predictor is a product like the router's") {
    const auto plan = modelled().plan();
    Task router{};
    router.kind = TaskKind::kRouter;
    const ComputeCost cost = plan->costs()->predictor(std::uint64_t{16} * 256 * 2);
    CHECK(us_of(cost) == us_of(plan->costs()->task(router, 0, 1)));
  }

  TEST_CASE("shapes outside those that were measured are told") {
    const char* text = "kernel times of ";
    CHECK_FALSE(warns(modelled(), text));
    Scenario scenario = modelled();
    scenario.config["model"]["vocab_size"] = 2000;
    CHECK(warns(scenario,
                "kernel times of the head (2000 x 256, f16) are extrapolated: outside the shapes "
                "that cpu.kernel_model of the device was fitted to"));
    scenario.config["device"]["cpu"]["kernel_model"]["f16"][0]["rows"] = {400, 4096};
    CHECK(warns(scenario, "kernel times of experts (256 x 512, f16), routers (16 x 256, f16) are"));
    Scenario other = modelled();
    other.config["execution"]["threads"] = 2;
    CHECK_FALSE(warns(other, text));
  }

  TEST_CASE("a run takes longer by what its launches cost") {
    Scenario scenario = modelled();
    const auto wall = [&] { return scenario.run().result.time->parts; };
    const auto with = wall();
    scenario.config["device"]["cpu"]["kernel_model"]["f16"][0]["launch_us"] = 0;
    const auto without = wall();
    const auto overhead = static_cast<std::size_t>(TimePart::kOverhead);
    // A token: attention, router and four experts of two launches in each of 4 layers, and the
    // head.
    CHECK(with[overhead] - without[overhead] == 8 * (4 * (1 + 1 + 4 * 2) + 1) * from_us(kLaunchUs));
  }

  TEST_CASE("numbers of the model need a source as others do") {
    Scenario scenario = modelled();
    Json& provenance = scenario.config["device"]["provenance"];
    const Json source = provenance["/cpu"];
    provenance.erase("/cpu");
    for (const char* key : {"threads", "layer_overhead_us", "f16_kernel_gbps"}) {
      provenance[std::string("/cpu/") + key] = source;
    }
    CHECK(contains(user_error_of([&] { static_cast<void>(scenario.plan()); }),
                   "/cpu/kernel_model/f16/0/threads: expected an entry \""));
    provenance["/cpu/kernel_model"] = source;
    CHECK_NOTHROW(static_cast<void>(scenario.plan()));
  }
}

}  // namespace moesim::test
