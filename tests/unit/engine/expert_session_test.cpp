#include "engine/expert_session.h"

#include "support/scenario.h"

namespace moesim::test {

TEST_SUITE("engine/expert_session") {
  TEST_CASE("a loop with logits of its own drives the session to the same decisions") {
    for (const char* policy : {"top_k", "cache_prior"}) {
      Scenario scenario(40, 3);
      scenario.config["routing"] = {{"policy", policy}};
      const auto recorded = scenario.plan();
      const auto driven = scenario.plan();
      std::vector<float> logits(16);
      for (const Pass& pass : recorded->schedule().passes) {
        recorded->session().begin_pass(pass);
        driven->session().begin_pass(pass);
        for (std::uint16_t l = 0; l < 4; ++l) {
          const auto layer = static_cast<LayerId>(l);
          // What a real router would have computed just now.
          recorded->trace().read_logits(pass.first, layer, logits);
          const auto expected = recorded->session().decode(pass, layer);
          const auto got = driven->session().decode(pass, layer, logits, {});
          REQUIRE(got.executed->ids == expected.executed->ids);
          REQUIRE(got.evicted.size() == expected.evicted.size());
        }
      }
      const CacheCounts& expected = recorded->session().accounting().counts();
      const CacheCounts& got = driven->session().accounting().counts();
      CHECK(got.hits == expected.hits);
      CHECK(got.demand_bytes == expected.demand_bytes);
      CHECK(got.hits > 0);
    }
  }

  TEST_CASE("skipping prefill still begins each sequence, so that resets and first tokens count") {
    TraceData trace = random_logits({40, 4, 16}, 4, 3);
    trace.sequence.assign(40, 0);
    trace.phase.assign(40, 1);
    for (std::size_t t = 0; t < 40; ++t) {
      trace.sequence[t] = t < 20 ? 0 : 1;
      if (t % 20 < 4) trace.phase[t] = 0;
    }
    Scenario scenario(trace);
    scenario.config["trace"]["prefill"] = "skip";
    const RunResult never = scenario.run().result;
    scenario.config["cache"]["reset"] = "sequence";
    const RunResult reset = scenario.run().result;
    CHECK(reset.cache.hits < never.cache.hits);
    CHECK(reset.time->ttft_ms > 0);
  }

  TEST_CASE("what was read ahead and is lost at a reset is wasted, not useful") {
    TraceData trace = random_logits({40, 4, 16}, 4, 3);
    trace.sequence.assign(40, 0);
    for (std::size_t t = 0; t < 40; ++t) trace.sequence[t] = static_cast<std::int32_t>(t / 2);
    Scenario scenario(trace);
    scenario.config["cache"] = {{"capacity_experts", 16}, {"reset", "sequence"}};
    scenario.config["prefetch"] = {{"policy", "oracle"}, {"distance", 30}};
    const auto plan = scenario.plan();
    const RunResult result = execute(*plan, {});
    CHECK(result.prefetch.wasted_bytes > 0);
    CHECK(result.prefetch.useful <= result.cache.hits);
  }

  TEST_CASE("reads far ahead of demand neither starve nor spoil the run") {
    Scenario scenario(30, 4);
    scenario.config["cache"] = {{"capacity_experts", 16}};
    scenario.config["prefetch"] = {
        {"policy", "oracle"}, {"distance", 1000}, {"max_outstanding_mib", 100000}};
    scenario.config["device"]["flash"]["bw_gbps"] = 0.05;
    const auto plan = scenario.plan();
    RunResult result;
    CHECK_NOTHROW(result = execute(*plan, {}));
    Duration path{};
    for (const Duration part : result.time->path) path += part;
    CHECK(path == result.time->wall);
  }
}

}  // namespace moesim::test
