// Several sequences in lock-step: who shares a pass, what the configuration refuses, and times that
// can be written down.
#include <fmt/format.h>

#include <algorithm>

#include "engine/replay.h"
#include "support/streams.h"

namespace moesim::test {
namespace {

// "p0x2@0; 2@0 6*@1 ; " for a prefill of 2 tokens from row 0 in lane 0 and a pass over the rows 2
// and 6, of which 6 begins a sequence; "w" before a pass of the warm-up, "," within a step.
std::string written(const TokenSchedule& schedule) {
  std::string text;
  for (const Pass& pass : schedule.passes) {
    if (pass.phase == Phase::kPrefill) {
      text += fmt::format("p{}x{}@{}; ", pass.first, pass.count, pass.lane);
      continue;
    }
    text += pass.measured ? "" : "w";
    for (const PassToken& token : pass.tokens) {
      text += fmt::format("{}{}@{} ", token.row, token.starts_sequence ? "*" : "", token.lane);
    }
    text += pass.ends_step ? "; " : ", ";
  }
  return text;
}

std::string error_of(const Scenario& scenario) {
  return user_error_of([&] { static_cast<void>(scenario.plan()); });
}

// The model's own routing; writes down whom it serves.
class Witness final : public RoutingPolicy {
 public:
  void route(const RouterVisit& visit, const ResidencyView& /*residency*/,
             Selection& chosen) override {
    chosen = visit.gate.native();
    if (index(visit.layer) == 0) seen += fmt::format("{} ", visit.token);
  }
  [[nodiscard]] std::size_t max_experts() const override { return 4; }
  void begin_sequence(std::int32_t sequence) override { seen += fmt::format("#{}: ", sequence); }

  std::string seen;
};

Scenario batch_of(const TraceData& trace, std::size_t size) {
  Scenario scenario(trace);
  scenario.config["execution"]["batch"] = size;
  return scenario;
}

}  // namespace

TEST_SUITE("engine/batch") {
  TEST_CASE("sequences join in the order of the trace, and the batch shrinks at its end") {
    const TraceData trace = random_streams({{2, 2}, {0, 1}, {1, 3}}, 1);
    CHECK(written(batch_of(trace, 2).plan()->schedule()) ==
          "p0x2@0; 2@0 4*@1 ; p5x1@1; 3@0 6@1 ; 7@1 ; 8@1 ; ");
    // One that has no decoded token passes by; its lane serves the next.
    const TraceData prompt = random_streams({{0, 1}, {3, 0}, {0, 2}}, 1);
    CHECK(written(batch_of(prompt, 2).plan()->schedule()) == "p1x3@1; 0*@0 4*@1 ; 5@1 ; ");
  }

  TEST_CASE("one routing policy sees the tokens of all lanes, and where each sequence begins") {
    const auto plan = batch_of(random_streams({{2, 2}, {0, 1}, {1, 3}}, 1), 2).plan();
    SessionParts parts;
    parts.trace = &plan->trace();
    parts.gate = plan->gate();
    parts.k = 4;
    parts.routing = std::make_unique<Witness>();
    const auto* witness = static_cast<const Witness*>(parts.routing.get());
    parts.lanes = plan->schedule().lanes;
    const Section lru(Json{{"policy", "lru"}}, "test", "");
    parts.cache = std::make_unique<ExpertCache>(
        plan->cache_options(), Registry<EvictionPolicy>::instance().make(
                                   lru, {plan->trace().shape(), plan->trace().shape().layers}));
    parts.expert_bytes = plan->expert_bytes();
    parts.tokens_in_pass = 2;
    ExpertSession session(std::move(parts));
    Replay(session, plan->schedule()).run(0, plan->schedule().passes.size(), nullptr);
    CHECK(witness->seen == "#0: #1: 2 4 #2: 3 6 7 8 ");
  }

  TEST_CASE("tokens that do not visit a layer are no part of its union") {
    TraceData trace;
    trace.shape = {4, 2, 4};
    trace.k = 2;
    trace.metadata = {{"top_k", "2"}, {"gate", "A"}};
    constexpr std::uint16_t kNone = TraceData::kAbsentId;
    // Two sequences of two tokens, two layers each.
    trace.ids = {0, 1, kNone, kNone, 2, 3, 0, 1, 1, 2, kNone, kNone, 3, 2, kNone, kNone};
    trace.sequence = {0, 0, 1, 1};
    Scenario scenario(trace);
    scenario.config = {{"trace", {{"path", "trace.safetensors"}}},
                       {"cache", {{"capacity_experts", 4}}},
                       {"execution", {{"batch", 2}}}};
    const RunResult result = scenario.run().result;
    // Layer 0: {0, 1, 2}, then {2, 3}; layer 1: nobody, then {0, 1}.
    CHECK(result.cache.accesses == 3 + 2 + 2);
    CHECK(result.cache.hits == 1);
    CHECK(result.routing.mean.visits == 5);
  }

  TEST_CASE("warm-up is counted in whole steps") {
    Scenario scenario = batch_of(random_streams({{0, 3}, {0, 3}}, 1), 2);
    scenario.config["trace"]["warmup_tokens"] = 3;
    const auto plan = scenario.plan();
    CHECK(written(plan->schedule()) == "w0*@0 3*@1 ; w1@0 4@1 ; 2@0 5@1 ; ");
    CHECK(plan->schedule().warmup_tokens == 4);
    CHECK(plan->schedule().measured_tokens == 2);
    scenario.config["trace"]["warmup_tokens"] = 5;
    CHECK(contains(error_of(scenario), "/trace/warmup_tokens: expected a step to measure after "));
  }

  TEST_CASE("the token scheduler has twice as many sequences under way") {
    TraceData trace = random_streams({{0, 2}, {0, 2}, {0, 2}, {0, 1}}, 1);
    // Sequences 0 and 2 use the same experts, and so do 1 and 3.
    const auto cell = [&](std::size_t row) { return trace.logits.begin() + row * 64; };
    const std::vector<float> even(cell(0), cell(1));
    const std::vector<float> odd(cell(2), cell(3));
    for (const std::size_t row : {1, 4, 5}) std::copy(even.begin(), even.end(), cell(row));
    for (const std::size_t row : {3, 6}) std::copy(odd.begin(), odd.end(), cell(row));
    Scenario scenario = batch_of(trace, 2);
    scenario.config["execution"]["scheduler"] = "expertflow";
    const auto plan = scenario.plan();
    const TokenSchedule& schedule = plan->schedule();
    CHECK(written(schedule) == "0*@0 4*@2 , 2*@1 6*@3 ; 1@0 5@2 , 3@1 ; ");
    REQUIRE(schedule.scheduler);
    CHECK(schedule.scheduler->steps == 2);
    CHECK(schedule.scheduler->changed_steps == 2);
    CHECK(schedule.scheduler->moved_sequences == 0);
    CHECK(schedule.scheduler->objective_after < schedule.scheduler->objective_before);
    const RunResult result = execute(*plan, {});
    CHECK(result.cache.accesses == schedule.scheduler->objective_after);
    CHECK(result.batch->kv_copy_bytes == 0);
    // A token's time is that of its step, which has two passes.
    CHECK(result.time->tpot_ms.mean > 1.5 * to_ms(result.time->wall) / 4);
  }

  TEST_CASE("what the configuration refuses") {
    const TraceData one = random_streams({{0, 8}}, 1);
    CHECK(contains(error_of(batch_of(one, 2)),
                   "/execution/batch: expected 1, got 2: the trace "
                   "trace.safetensors has no second sequence"));
    const TraceData prompt = random_streams({{0, 4}, {4, 0}}, 1);
    CHECK(contains(error_of(batch_of(prompt, 2)), "has no second sequence"));
    const TraceData trace = random_streams({{0, 4}, {0, 4}}, 1);
    CHECK(contains(error_of(batch_of(trace, 0)), "/execution/batch: expected an integer in [1, "));
    Scenario scenario = batch_of(trace, 2);
    scenario.config["cache"]["reset"] = "sequence";
    CHECK(contains(error_of(scenario), "/cache/reset: expected never with a batch of 2"));
    scenario.config["cache"].erase("reset");
    scenario.config["execution"]["scheduler"] = "expertflow";
    CHECK(contains(error_of(scenario),
                   "/execution/scheduler: expected none, because the 2 "
                   "sequences of the trace trace.safetensors fit into one"));
    scenario.config["execution"]["batch"] = 1;
    CHECK(contains(error_of(scenario), "/execution/scheduler: expected none with a batch of 1"));
    scenario.config["execution"]["scheduler"] = "orca";
    CHECK(contains(error_of(scenario), "/execution/scheduler: unknown value \"orca\""));
  }

  TEST_CASE("warnings: a batch that never fills, a cache below one pass, the oracle") {
    const auto warns = [](const Scenario& scenario, const std::string& part) {
      const auto plan = scenario.plan();
      for (const std::string& warning : plan->warnings()) {
        if (contains(warning, part)) return true;
      }
      return false;
    };
    Scenario scenario = batch_of(random_streams({{0, 4}, {0, 4}, {0, 4}}, 1), 8);
    CHECK(warns(scenario, "the trace has 3 sequences, fewer than the 8 that could decode at once"));
    CHECK(warns(scenario, "a pass of 3 tokens can use 12 experts of a layer, the cache holds 8"));
    scenario.config["execution"]["batch"] = 2;
    CHECK_FALSE(warns(scenario, "fewer than"));
    CHECK_FALSE(warns(scenario, "can use"));
    scenario.config["execution"]["scheduler"] = "expertflow";
    CHECK(warns(scenario, "an oracle, where ExpertFlow has a predictor"));
  }

  TEST_CASE("two copies cost the time of one and the second key-value cache") {
    Scenario scenario(equal_streams(3, 2, 4));
    scenario.config["execution"]["lanes"] = 1;
    scenario.config["trace"]["max_tokens"] = 3;
    const RunResult one = scenario.run().result;
    scenario.config["trace"]["max_tokens"] = nullptr;
    scenario.config["execution"]["batch"] = 2;
    const RunResult two = scenario.run().result;
    // No kernel rate: products take what DRAM gives, however many tokens share the weights.
    const std::uint64_t kv_per_token = 2 * 2 * 64 * 2;
    const std::uint64_t mixer = (2 * 256 * 256 + 2 * 256 * 128 + 2 * 256) * 2;
    Duration more{};
    for (std::uint64_t tokens = 1; tokens <= 3; ++tokens) {
      more += 4 * (transfer_time(mixer + 2 * tokens * kv_per_token, to_rate(20.0)) -
                   transfer_time(mixer + tokens * kv_per_token, to_rate(20.0)));
    }
    CHECK(two.time->wall == one.time->wall + more);
    CHECK(two.time->token_wall == 2 * two.time->wall);
    CHECK(two.time->decode_tokens_per_s ==
          doctest::Approx(6 / to_seconds(two.time->wall)).epsilon(1e-12));
    CHECK(two.time->tpot_ms.mean == doctest::Approx(to_ms(two.time->wall) / 3).epsilon(1e-12));
    CHECK(two.memory->kv_peak_mib == 2 * one.memory->kv_peak_mib);
    CHECK(two.batch->distinct_experts == 3 * 16);
    CHECK(two.routing.mean.experts == 4);
  }

  TEST_CASE("the kernel multiplies weights once per token, and each token's cache once") {
    Scenario scenario = batch_of(random_streams({{0, 8}, {0, 8}}, 1), 2);
    scenario.config["device"]["cpu"]["f16_kernel_gbps"] = 5.0;
    const auto plan = scenario.plan();
    const TaskCosts& costs = *plan->costs();
    const std::uint64_t kv_per_token = 2 * 2 * 64 * 2;
    const std::uint64_t mixer = (2 * 256 * 256 + 2 * 256 * 128 + 2 * 256) * 2;
    std::vector<PassToken> tokens(2);
    tokens[0].position = 3;
    tokens[1].position = 6;
    Task attention;
    attention.kind = TaskKind::kAttention;
    const ComputeCost both = costs.batch_task(attention, tokens);
    CHECK(both.bytes == mixer + (4 + 7) * kv_per_token);
    CHECK(both.fixed == from_us(50));
    const std::uint64_t multiplied = 2 * mixer + (4 + 7) * kv_per_token;
    CHECK(to_seconds(both.nominal) ==
          doctest::Approx(static_cast<double>(multiplied) / 5e9).epsilon(1e-6));
    // A sequence that came from the other batch: its cache is read and written first.
    tokens[1].moved = true;
    const ComputeCost moved = costs.batch_task(attention, tokens);
    CHECK(moved.bytes == both.bytes + 2 * 6 * kv_per_token);
    CHECK(costs.kv_copy_bytes(tokens) == 4 * 2 * 6 * kv_per_token);
    CHECK(to_seconds(moved.nominal - both.nominal) ==
          doctest::Approx(2 * 6 * static_cast<double>(kv_per_token) / 20e9).epsilon(1e-3));
    // The head runs for both tokens, a router too.
    for (const TaskKind kind : {TaskKind::kHead, TaskKind::kRouter}) {
      Task task;
      task.kind = kind;
      const ComputeCost one = costs.batch_task(task, std::span(tokens).first(1));
      const ComputeCost two = costs.batch_task(task, tokens);
      CHECK(two.bytes == one.bytes);
      CHECK(to_seconds(two.nominal) == doctest::Approx(2 * to_seconds(one.nominal)).epsilon(1e-6));
    }
    // One token alone costs what it costs without batches.
    const ComputeCost alone = costs.batch_task(attention, std::span(tokens).first(1));
    const ComputeCost single = costs.task(attention, 3, 1);
    CHECK(alone.nominal == single.nominal);
    CHECK(alone.bytes == single.bytes);
  }

  TEST_CASE("a first token is there at the end of the pass, and waits for prompts before it") {
    Scenario scenario = batch_of(random_streams({{4, 2}, {4, 2}}, 2), 2);
    scenario.config["cache"]["capacity_experts"] = 16;
    const auto plan = scenario.plan();
    const RunResult result = execute(*plan, {true});
    // Sequence 0 began with its own prompt, sequence 1 after it: the mean lies between.
    const double first_pass = to_ms(result.rows[0].wall);
    CHECK(result.time->ttft_ms > first_pass + result.time->prefill_ms / 2);
    CHECK(result.time->ttft_ms < first_pass + result.time->prefill_ms);
  }
}

}  // namespace moesim::test
