#include "calibration/real_run.h"

#include "support/scenario.h"

namespace moesim {
namespace {

using test::Scenario;

Scenario scenario_for_real() {
  Scenario scenario(8);
  scenario.config["memory"] = {{"expert_pages", "reserved"}};
  return scenario;
}

std::string refusal(const Scenario& scenario) {
  const auto plan = scenario.plan();
  return test::user_error_of([&] { require_real(*plan); });
}

}  // namespace

TEST_SUITE("calibration/real_run") {
  TEST_CASE("what the real decode loop cannot do is refused by its key") {
    struct Case {
      const char* pointer;  // of what is set
      Json value;
      const char* names;  // what the message has to say
    };
    const Case cases[] = {
        {"/device", nullptr, "/device: expected a device"},
        {"/weights/expert_bits", 12, "/weights/expert_bits: expected 16 (fp16), 8.5 or 4.5"},
        {"/weights/dense_bits", 4, "/weights/dense_bits: expected 16"},
        {"/weights/on_miss", {{"policy", "hobbit"}}, "/weights/on_miss: expected the policy full"},
        {"/model/expert_matrices", 2, "/model: expected experts of gate, up and down"},
        {"/execution/service_noise", true, "/execution/service_noise: expected false"},
        {"/prefetch", {{"policy", "previous_token"}}, "/prefetch/policy: expected none"},
        {"/cache/cold_start", "hit_until_full", "/cache/cold_start: expected strict"},
        {"/memory/expert_pages", "on_demand", "/memory/expert_pages: expected reserved"},
    };
    for (const Case& c : cases) {
      CAPTURE(c.pointer);
      Scenario scenario = scenario_for_real();
      scenario.config[Json::json_pointer(c.pointer)] = c.value;
      if (c.value.is_null()) {
        scenario.config.erase("memory");
        scenario.config.erase("execution");
      }
      const std::string message = refusal(scenario);
      CHECK_MESSAGE(test::contains(message, c.names), message);
      CHECK(test::contains(message, "for the real decode loop"));
    }
  }

  TEST_CASE("one sequence at a time") {
    TraceData trace = test::random_logits({8, 4, 16}, 4, 1);
    trace.sequence = {0, 0, 0, 0, 1, 1, 1, 1};
    Scenario scenario(trace);
    scenario.config["memory"] = {{"expert_pages", "reserved"}};
    require_real(*scenario.plan());
    scenario.config["execution"]["batch"] = 2;
    CHECK(test::contains(refusal(scenario), "/execution/batch: expected 1"));
  }

  TEST_CASE("prompt tokens must be skipped") {
    TraceData trace = test::random_logits({8, 4, 16}, 4, 1);
    trace.phase = {0, 0, 1, 1, 1, 1, 1, 1};
    Scenario scenario(trace);
    scenario.config["memory"] = {{"expert_pages", "reserved"}};
    CHECK(test::contains(refusal(scenario), "/trace/prefill: expected skip"));
    scenario.config["trace"]["prefill"] = "skip";
    require_real(*scenario.plan());
  }

  TEST_CASE("sizes follow from model, cache and weights") {
    Scenario scenario = scenario_for_real();  // 256 x 512, 4 layers of 16, 8 of them cached
    auto plan = scenario.plan();
    const StoreShape shape = store_shape(*plan, 5);
    CHECK(shape == StoreShape{4, 16, 256, 512, WeightFormat::kFp16, 5});
    CHECK(RecordLayout(shape).expert_bytes() == plan->expert_bytes().front());
    CHECK(slots_needed(*plan) == 4 * 8 + 4);
    CHECK(memory_needed(*plan).experts == (4 * 8 + 4) * std::uint64_t{3} * 256 * 512 * 2);
    scenario.config["cache"] = {{"scope", "global"}, {"capacity_experts", 20}};
    CHECK(slots_needed(*scenario.plan()) == 24);
    scenario.config["cache"] = {{"capacity_mib", 24}};  // 6 MiB a layer: 8 experts of 768 KiB
    CHECK(slots_needed(*scenario.plan()) == 4 * 8 + 4);
    scenario.config["cache"] = {{"capacity_experts", 8}, {"overflow", "keep_event"}};
    CHECK(slots_needed(*scenario.plan()) == 4 * 12 + 4);
    scenario.config["cache"] = {{"capacity_experts", 16}};
    CHECK(slots_needed(*scenario.plan()) == 64);
    // Attention, router and head of each layer with the longest key-value cache: not the input
    // table.
    plan = scenario.plan();
    const std::uint64_t attention = 256 * (256 + 128 + 128 + 256) + 2 * 256;
    const std::uint64_t kv = 8 * 2 * 128;
    const std::uint64_t dense = 4 * (attention + kv + 16 * 256) + 1000 * 256 + 256;
    CHECK(memory_needed(*plan).dense <= dense * 2);
    CHECK(memory_needed(*plan).dense > dense * 2 - 9 * 512);  // whole rows
  }
}

}  // namespace moesim
