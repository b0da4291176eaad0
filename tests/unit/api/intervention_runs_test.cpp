// Whole runs of the policies that intervene in the router, on the bundled trace.
#include "core/files.h"
#include "metrics/run_metrics.h"
#include "support/allocation_counter.h"
#include "support/routing.h"
#include "support/scenario.h"

namespace moesim::test {
namespace {

// 48 tokens without a device, an eighth of the experts cached.
RunResult run(const Json& routing, const std::string& trace = "reference-moe-small") {
  ConfigText config;
  config.shown = "run.json";
  config.base_dir = source_dir() / "traces";
  config.root = {{"trace", {{"path", trace + ".safetensors"}, {"max_tokens", 48}}},
                 {"device", nullptr},
                 {"routing", routing},
                 {"cache", {{"capacity_fraction", 0.5}}}};
  return execute(*plan_run(config), {});
}

}  // namespace

TEST_SUITE("api/intervention_runs") {
  TEST_CASE("the neutral setting of each is top_k") {
    const RunResult native = run({{"policy", "top_k"}});
    for (const char* name :
         {"selection_bias", "sticky", "steering", "rewiring", "layer_plan", "global_budget"}) {
      CAPTURE(name);
      const auto& about = Registry<RoutingPolicy>::instance().all().at(name).about;
      const bool has_neutral = about.neutral != nullptr;
      REQUIRE(has_neutral);
      const std::size_t k = native.routing.displaced_by_rank.size();
      Json config = {{"policy", name}};
      config.update(about.neutral(k));
      const RunResult result = run(config);
      CHECK(result.cache.hits == native.cache.hits);
      CHECK(result.cache.accesses == native.cache.accesses);
      CHECK(result.routing.mean.agreement == 1);
    }
  }

  TEST_CASE("each does what it is for") {
    const RunResult native = run({{"policy", "top_k"}});
    const auto hit_rate = [](const RunResult& result) {
      return static_cast<double>(result.cache.hits) / static_cast<double>(result.cache.accesses);
    };
    const RunResult sticky = run({{"policy", "sticky"}, {"rho", 0.8}});
    CHECK(hit_rate(sticky) > hit_rate(native));
    CHECK(sticky.routing.mean.agreement < 1);
    const RunResult steered = run({{"policy", "steering"}, {"lambda", 0.5}});
    CHECK(hit_rate(steered) > hit_rate(native));
    const RunResult spared = run({{"policy", "selection_bias"},
                                  {"target", "residency"},
                                  {"u", 0.02},
                                  {"window", 2},
                                  {"misses", 0.25}});
    CHECK(hit_rate(spared) > hit_rate(native));
    const RunResult balanced = run({{"policy", "selection_bias"}, {"u", 0.05}, {"window", 4}});
    CHECK(balanced.routing.mean.agreement < 1);
    CHECK(balanced.cache.accesses == native.cache.accesses);
    const RunResult budget = run({{"policy", "global_budget"}});
    CHECK(budget.cache.accesses == native.cache.accesses);  // the budget is L k
    CHECK(*budget.routing.mean.retained_mass != 1);
    const std::size_t layers = native.routing.by_layer.size();
    Json plan = Json::array();
    for (std::size_t layer = 0; layer < layers; ++layer) plan.push_back(layer == 0 ? 0 : 1);
    const RunResult skipped = run({{"policy", "layer_plan"}, {"executions", plan}});
    CHECK(skipped.cache.accesses * layers == native.cache.accesses * (layers - 1));
    CHECK(skipped.routing.by_layer.front().experts == 0);
    CHECK(skipped.routing.by_layer.front().agreement == 0);
    CHECK(*skipped.routing.by_layer.front().skipped_mass == 1);
    CHECK(std::abs(*skipped.routing.mean.dropped_mass - 1.0 / static_cast<double>(layers)) < 1e-12);
  }

  TEST_CASE("balancing balances: the busiest expert is less so") {
    const RunResult native = run({{"policy", "top_k"}});
    const RunResult balanced = run({{"policy", "selection_bias"}, {"u", 0.01}, {"window", 1}});
    CHECK(balanced.routing.load_violation < native.routing.load_violation);
  }

  TEST_CASE("a thousand tokens in steady state allocate nothing") {
    for (const Json& routing :
         {Json{{"policy", "selection_bias"}, {"window", 3}},
          Json{{"policy", "selection_bias"}, {"target", "residency"}, {"window", 3}},
          Json{{"policy", "sticky"}}, Json{{"policy", "steering"}},
          Json{{"policy", "steering"}, {"mode", "activate"}}, Json{{"policy", "global_budget"}},
          Json{{"policy", "layer_plan"}, {"executions", {2, 0, 1, 2}}}}) {
      const std::string shown = routing.dump();
      CAPTURE(shown);
      Scenario scenario(1400, 7);
      scenario.config["routing"] = routing;
      scenario.config["execution"]["overlap"] = "expert";
      const auto plan = scenario.plan();
      RunMetrics metrics(*plan, false);
      plan->simulation()->run(0, 400, &metrics, false);
      const std::size_t before = allocations();
      plan->simulation()->run(400, 1400, &metrics, false);
      CHECK(allocations() - before == 0);
    }
  }

  TEST_CASE("files are inputs of the run, and a missing one names its key") {
    Scenario scenario(6);
    scenario.config["routing"] = {{"policy", "rewiring"}, {"delta", "delta.json"}};
    CHECK(user_error_of([&] { static_cast<void>(scenario.run()); }) ==
          (scenario.folder() / "config.json").string() +
              ": /routing/delta: delta.json: expected a file, got nothing: no such file");
    Json layer = Json::array();
    for (int e = 0; e < 16; ++e) layer.push_back(e == 5 ? 100 : 0);
    const Json delta = {{"delta", {{layer, nullptr, nullptr, nullptr}}}};
    write_file_atomically(scenario.folder() / "delta.json",
                          [&](std::ostream& out) { out << delta.dump(); });
    const RunReport report = scenario.run();
    REQUIRE(report.inputs.size() == 3);
    CHECK(report.inputs.back().path == "delta.json");
    CHECK(report.result.routing.by_layer[0].agreement < 1);
    CHECK(report.result.routing.by_layer[1].agreement == 1);
  }

  TEST_CASE("a compact trace is refused where logits are needed, naming policy and tensor") {
    TraceData compact;
    compact.shape = {2, 4, 16};
    compact.k = 4;
    for (int cell = 0; cell < 8; ++cell) compact.ids.insert(compact.ids.end(), {0, 1, 2, 3});
    compact.metadata = {{"top_k", "4"}, {"gate", "A"}};
    Scenario scenario(compact);
    for (const char* name : {"selection_bias", "sticky", "steering", "global_budget"}) {
      CAPTURE(name);
      scenario.config["routing"] = {{"policy", name}};
      const std::string message = user_error_of([&] { static_cast<void>(scenario.run()); });
      CHECK(contains(message, std::string(name) + " needs the tensor router_logits"));
      CHECK(contains(message, "trace.safetensors lacks"));
    }
    scenario.config["routing"] = {{"policy", "layer_plan"}, {"executions", {1, 2, 0, 1}}};
    CHECK(scenario.run().result.cache.accesses == 2 * 4 * 4);
  }
}

}  // namespace moesim::test
