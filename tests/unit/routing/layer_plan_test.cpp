// Plans of layers: reading them, and what a run with one takes.
#include "core/files.h"
#include "core/units.h"
#include "support/routing.h"
#include "support/scenario.h"

namespace moesim::test {
namespace {

std::unique_ptr<RoutingPolicy> plan(const Json& executions) {
  return routing_policy({{"policy", "layer_plan"}, {"executions", executions}},
                        routing_context(gate_of('A'), 4, 2, 3));
}

std::string message(const Json& executions) {
  return user_error_of([&] { plan(executions); });
}

std::vector<std::uint32_t> executions_of(const RoutingPolicy& policy, std::int32_t sequence) {
  std::vector<std::uint32_t> executions;
  executions.reserve(3);
  for (std::size_t layer = 0; layer < 3; ++layer) {
    executions.push_back(policy.executions(sequence, LayerId(layer)));
  }
  return executions;
}

using Executions = std::vector<std::uint32_t>;

// What one block of the small model with two tokens of context takes at 20 GB/s when everything is
// there: attention, router, four experts; and its fixed part.
Duration block_time() {
  const std::uint64_t mixer = (2 * 256 * 256 + 2 * 256 * 128 + 2 * 256) * 2;
  const std::uint64_t kv = 2 * (2 * 2 * 64 * 2);
  const std::uint64_t router = 256 * 16 * 2;
  const std::uint64_t expert = 3 * 256 * 512 * 2;
  const auto at_rate = [](std::uint64_t bytes) { return transfer_time(bytes, to_rate(20.0)); };
  return from_us(50) + at_rate(mixer + kv) + at_rate(router) + 4 * at_rate(expert);
}

// Two equal tokens; the second is measured and finds everything in the cache.
Scenario all_hits() {
  TraceData trace = random_logits({1, 4, 16}, 4, 3);
  trace.logits.insert(trace.logits.end(), trace.logits.begin(), trace.logits.begin() + 64);
  trace.shape.tokens = 2;
  Scenario scenario(trace);
  scenario.config["trace"]["warmup_tokens"] = 1;
  scenario.config["cache"] = {{"capacity_experts", 16}};
  return scenario;
}

RunResult run(Scenario& scenario, const Json& executions) {
  scenario.config["routing"] = {{"policy", "layer_plan"}, {"executions", executions}};
  return scenario.run().result;
}

template <std::size_t Parts>
Duration sum(const Durations<Parts>& parts) {
  Duration total{};
  for (const Duration part : parts) total += part;
  return total;
}

// `result` ran so many blocks where `once` ran four, all of them from the cache.
void check_blocks(const RunResult& result, const RunResult& once, int blocks, Duration slack) {
  CAPTURE(blocks);
  const TimeResult& time = *result.time;
  const Duration expected = once.time->wall + (blocks - 4) * block_time();
  CHECK(time.wall >= expected);
  CHECK(time.wall <= expected + slack);
  CHECK(time.parts[static_cast<std::size_t>(TimePart::kOverhead)] == blocks * from_us(50));
  CHECK(sum(time.parts) == time.wall);
  CHECK(sum(time.path) == time.wall);
  CHECK(time.dependency_ms <= to_ms(time.wall) + 1e-9);
  CHECK(result.cache.hits == static_cast<std::uint64_t>(4 * blocks));
  CHECK(result.cache.misses == 0);
}

// Counts the passes whose time is not the sum of its parts, or of its critical path.
class PassSums final : public RunObserver {
 public:
  void on_pass(const PassRecord& record) override {
    const Duration wall = record.end - record.start;
    ++passes;
    if (sum(record.parts) != wall || sum(record.path) != wall || record.dependency > wall) ++broken;
  }
  std::size_t passes = 0;
  std::size_t broken = 0;
};

}  // namespace

TEST_SUITE("routing/layer_plan") {
  TEST_CASE("a plan for all sequences, and plans of their own") {
    CHECK(executions_of(*plan({0, 1, 2}), 5) == Executions{0, 1, 2});
    CHECK(plan({0, 1, 2})->max_executions() == 2);
    CHECK(plan({0, 1, 0})->max_executions() == 1);
    CHECK(executions_of(*plan(nullptr), 0) == Executions{1, 1, 1});
    const auto own = plan({{"3", {2, 0, 1}}});
    CHECK(executions_of(*own, 3) == Executions{2, 0, 1});
    CHECK(executions_of(*own, 4) == Executions{1, 1, 1});
    const auto with_default = plan({{"3", {2, 0, 1}}, {"default", {1, 1, 0}}});
    CHECK(executions_of(*with_default, 3) == Executions{2, 0, 1});
    CHECK(executions_of(*with_default, 4) == Executions{1, 1, 0});
  }

  TEST_CASE("a file in the place of the plan") {
    const TemporaryFolder folder;
    write_file_atomically(folder.path() / "plan.json",
                          [](std::ostream& out) { out << R"({"1": [2, 1, 0]})"; });
    write_file_atomically(folder.path() / "bad.json",
                          [](std::ostream& out) { out << "[1, 1, 3]"; });
    RoutingContext context = routing_context(gate_of('A'), 4, 2, 3);
    context.base_dir = folder.path();
    const auto make = [&](const Json& config) { return routing_policy(config, context); };
    CHECK(executions_of(*make({{"policy", "layer_plan"}, {"file", "plan.json"}}), 1) ==
          Executions{2, 1, 0});
    CHECK(user_error_of([&] {
            make({{"policy", "layer_plan"}, {"file", "bad.json"}});
          }) == "bad.json: /2: expected an integer in [0, 2], got 3");
    CHECK(user_error_of([&] {
            make({{"policy", "layer_plan"}, {"file", "plan.json"}, {"executions", {1, 1, 1}}});
          }) == "run.json: /routing/file: expected executions or a file with them, got both");
  }

  TEST_CASE("what is not a plan is refused with its place") {
    CHECK(
        message({1, 1}) ==
        "run.json: /routing/executions: expected an array of 3 elements, one per MoE layer, got an "
        "array of 2 elements");
    CHECK(message({1, 1, 3}) ==
          "run.json: /routing/executions/2: expected an integer in [0, 2], got 3");
    CHECK(message({1, -1, 1}) ==
          "run.json: /routing/executions/1: expected an integer in [0, 2], got -1");
    CHECK(message({0, 0, 0}) ==
          "run.json: /routing/executions: expected at least one layer that runs, got an array of 3 "
          "elements");
    CHECK(message(2) ==
          "run.json: /routing/executions: expected an array with 0, 1 or 2 per MoE layer, or an "
          "object of such by sequence, got 2");
    CHECK(
        message({{"first", {1, 1, 1}}}) ==
        "run.json: /routing/executions/first: expected the number of a sequence or \"default\" as "
        "the key, got an array of 3 elements");
  }

  TEST_CASE("all hits: time is that of the blocks that run, and its parts add up") {
    Scenario scenario = all_hits();
    const RunResult once = run(scenario, {1, 1, 1, 1});
    for (const char* overlap : {"none", "expert", "projection"}) {
      scenario.config["execution"]["overlap"] = overlap;
      CAPTURE(overlap);
      // Rounding to picoseconds where an expert runs in two halves.
      const Duration slack{std::string(overlap) == "projection" ? 64 : 0};
      check_blocks(run(scenario, {0, 0, 1, 0}), once, 1, slack);
      check_blocks(run(scenario, {0, 1, 1, 0}), once, 2, slack);
      check_blocks(run(scenario, {1, 0, 2, 1}), once, 4, slack);
      check_blocks(run(scenario, {2, 2, 2, 2}), once, 8, slack);
    }
    scenario.config["execution"]["overlap"] = "none";
    scenario.config["routing"] = {{"policy", "top_k"}};
    CHECK(scenario.run().result.time->wall == once.time->wall);
  }

  TEST_CASE("a run with a plan that changes something carries the open-loop caveat") {
    Scenario scenario(2);
    const auto warned = [](const RunResult& result) {
      return std::any_of(result.warnings.begin(), result.warnings.end(), [](const auto& warning) {
        return contains(warning, "open loop: the recorded logits do not react to blocks");
      });
    };
    CHECK(!warned(run(scenario, {1, 1, 1, 1})));
    CHECK(warned(run(scenario, {1, 1, 2, 1})));
    CHECK(warned(run(scenario, {{"0", {1, 0, 1, 1}}})));
    CHECK(!warned(run(scenario, {{"1", {1, 0, 1, 1}}})));  // a sequence that the trace lacks
  }

  TEST_CASE("a repeat finds what its first pass read, without a cache it reads again") {
    Scenario scenario(1);
    scenario.config["cache"] = {{"capacity_experts", 4}};
    const RunResult once = run(scenario, {1, 1, 1, 1});
    const RunResult twice = run(scenario, {2, 1, 2, 0});
    CHECK(once.cache.misses == 16);
    CHECK(twice.cache.misses == 12);
    CHECK(twice.cache.hits == 8);
    CHECK(twice.time->flash.bytes * 4 == once.time->flash.bytes * 3);
    scenario.config["cache"] = {{"capacity_experts", 0}};
    CHECK(run(scenario, {2, 1, 1, 1}).cache.misses == 20);
  }

  TEST_CASE("a predictor is asked about the visits that come, not about layers that are skipped") {
    const std::vector<std::vector<int>> plans = {{1, 0, 1, 1}, {0, 1, 0, 2}, {2, 2, 2, 2}};
    for (const std::vector<int>& plan : plans) {
      Scenario scenario(random_logits({24, 4, 16}, 4, 5));
      scenario.config["cache"] = {{"capacity_experts", 8}};
      scenario.config["prefetch"] = {{"policy", "oracle"}, {"distance", 3}};
      const RunResult result = run(scenario, plan);
      CHECK(result.prediction.right == result.prediction.named);
      CHECK(result.prediction.predicted + 1 == result.prediction.visits);  // all but the first
      CHECK(result.prefetch.wasted_bytes == 0);
    }
  }

  TEST_CASE("plec, whose plan takes the layers in order, refuses others") {
    Scenario scenario(random_logits({24, 4, 16}, 4, 5));
    scenario.config["cache"] = {
        {"scope", "global"}, {"capacity_experts", 20}, {"eviction", {{"policy", "plec"}}}};
    CHECK_NOTHROW(run(scenario, {1, 1, 1, 1}));
    CHECK_THROWS_AS(run(scenario, {1, 0, 1, 1}), UserError);
  }

  TEST_CASE("with and without time it makes the same decisions, sequence by sequence") {
    TraceData trace = random_logits({24, 4, 16}, 4, 5);
    for (int token = 0; token < 24; ++token) trace.sequence.push_back(token / 8);
    trace.phase.assign(24, 1);
    trace.phase[0] = trace.phase[1] = 0;
    Scenario scenario(trace);
    const Json plans = {{"0", {0, 2, 1, 1}}, {"2", {1, 1, 0, 0}}};
    const std::uint64_t visits = 6 * 4 + 8 * 4 + 8 * 2;
    for (const char* eviction : {"lru", "belady"}) {
      CAPTURE(eviction);
      scenario.config["cache"]["eviction"] = {{"policy", eviction}};
      scenario.config["device"] = scenario_device();
      const RunResult timed = run(scenario, plans);
      scenario.config["device"] = nullptr;
      const RunResult untimed = run(scenario, plans);
      CHECK(timed.routing.mean.visits == visits + 6 + 2 * 8);  // with those that are skipped
      CHECK(timed.cache.accesses == 4 * visits);
      CHECK(untimed.cache.hits == timed.cache.hits);
      CHECK(untimed.cache.demand_bytes == timed.cache.demand_bytes);
      CHECK(*timed.belady_executed_hit_rate * static_cast<double>(timed.cache.accesses) >=
            static_cast<double>(timed.cache.hits) - 1e-6);
      if (std::string(eviction) == "belady") {
        CHECK(*timed.belady_executed_hit_rate ==
              doctest::Approx(static_cast<double>(timed.cache.hits) /
                              static_cast<double>(timed.cache.accesses)));
      }
    }
  }

  TEST_CASE("random plans: in every pass the parts and the path add up to its time") {
    Rng rng(3);
    for (std::uint64_t round = 0; round < 12; ++round) {
      Scenario scenario(40, round);
      Json executions = Json::array();
      for (int layer = 0; layer < 4; ++layer) executions.push_back(rng.below(3));
      executions[rng.below(4)] = 1;
      const std::string shown = executions.dump();
      CAPTURE(shown);
      const char* overlaps[] = {"none", "expert", "projection"};
      scenario.config["routing"] = {{"policy", "layer_plan"}, {"executions", executions}};
      scenario.config["execution"]["overlap"] = overlaps[round % 3];
      scenario.config["execution"]["lanes"] = 1 + rng.below(4);
      scenario.config["cache"]["capacity_experts"] = 4 + rng.below(6);
      if (round % 2 == 1) scenario.config["prefetch"] = {{"policy", "oracle"}, {"distance", 3}};
      const auto plan = scenario.plan();
      PassSums sums;
      plan->simulation()->run(0, plan->schedule().passes.size(), &sums, true);
      CHECK_NOTHROW(plan->simulation()->drain());
      CHECK(sums.passes == 40);
      CHECK(sums.broken == 0);
    }
  }

  TEST_CASE("hidden layers without experts run once whatever the plan") {
    Scenario scenario = all_hits();
    scenario.config["model"]["num_hidden_layers"] = 5;
    scenario.config["model"]["intermediate_size"] = 512;
    const RunResult once = run(scenario, {1, 1, 1, 1});
    const RunResult one_block = run(scenario, {0, 0, 0, 1});
    CHECK(once.time->wall - one_block.time->wall == 3 * block_time());
    CHECK(one_block.time->parts[static_cast<std::size_t>(TimePart::kOverhead)] == 2 * from_us(50));
  }
}

}  // namespace moesim::test
