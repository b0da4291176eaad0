#include "routing/odp_thresholds.h"
#include "support/routing.h"
#include "support/testing.h"

namespace moesim::test {
namespace {

using Ids = std::vector<std::size_t>;

Json odp(const Json& mu) { return {{"policy", "odp"}, {"mu", mu}}; }

std::string message(const Json& config, char gate = 'A', std::size_t k = 2) {
  return user_error_of([&] { routing_policy(config, routing_context(gate_of(gate), 8, k, 2)); });
}

// Two layers, two experts of four, two prefill and four decode tokens.
TraceData compact() {
  TraceData data;
  data.shape = {6, 2, 4};
  data.k = 2;
  for (std::size_t cell = 0; cell < 12; ++cell) {
    data.ids.insert(data.ids.end(), {0, 1});
    const auto token = static_cast<float>(cell / 2);
    // Decode ratios: layer 0: 0.1 0.2 0.3 0.4; layer 1: half of them.
    const float ratio = (token - 1) / 10 / (cell % 2 == 0 ? 1.0F : 2.0F);
    data.weights.insert(data.weights.end(), {1, cell < 4 ? 1.0F : ratio});
  }
  data.phase = {0, 0, 1, 1, 1, 1};
  data.metadata = {{"gate", "A"}, {"top_k", "2"}};
  return data;
}

}  // namespace

TEST_SUITE("routing/odp") {
  TEST_CASE("the fixture's cases") {
    std::size_t cases = 0;
    const Json fixture = golden("gates.json");
    for (const Json& entry : fixture.at("cases")) {
      const std::string id = entry.at("id");
      if (id != "odp_prunes" && id != "odp_keeps") continue;
      CAPTURE(id);
      const RoutingContext context = routing_context(gate_of('A'), 2, 2);
      const auto logits = entry.at("given").at("logits").get<std::vector<float>>();
      const auto policy = routing_policy(odp(entry.at("given").at("mu")), context);
      const Selection chosen = route(*policy, context, logits, {});
      CHECK(Json(ids_of(chosen)) == entry.at("expected").at("runs"));
      Gate gate(context.gate, 2, 2);
      gate.set_logits(logits, {});
      // 0.2 is not a float; hence 1e-8.
      CHECK(near(gate.native().weights[1] / gate.native().weights[0],
                 entry.at("expected").at("ratio"), 1e-8));
      ++cases;
    }
    CHECK(cases == 2);
  }

  TEST_CASE("half of the best weight is a logit margin of ln 2") {
    const RoutingContext context = routing_context(gate_of('A'), 2, 2);
    const auto policy = routing_policy(odp(0.5), context);
    CHECK(ids_of(route(*policy, context, {0.6930F, 0}, {})) == Ids{0, 1});
    CHECK(ids_of(route(*policy, context, {0.6932F, 0}, {})) == Ids{0});
  }

  TEST_CASE("ranks are judged on their own, and survivors are weighed by the gate's rule") {
    const RoutingContext context = routing_context(gate_of('A'), 4, 3);
    const std::vector<float> logits{2, 1, 0.5F, 0};
    const auto policy = routing_policy(odp({{0.5, 0.1}}), context);
    const Selection chosen = route(*policy, context, logits, {});
    CHECK(ids_of(chosen) == Ids{0, 2});
    CHECK(near(chosen.weights[0], 1 / (1 + std::exp(-1.5)), 1e-12));
    CHECK(near(chosen.weights[0] + chosen.weights[1], 1, 1e-12));
    const RoutingContext b = routing_context(gate_of('B'), 4, 3);
    Gate gate(b.gate, 4, 3);
    gate.set_logits(logits, {});
    CHECK(route(*policy, b, logits, {}).weights ==
          std::vector<double>{gate.native().weights[0], gate.native().weights[2]});
  }

  TEST_CASE("a selection bias does not decide which expert counts as the best") {
    // Biased order 1, 0; by weight 0, 1.
    const std::vector<float> logits{2, 0, -5};
    const std::vector<float> bias{0, 1, 0};
    const RoutingContext context = routing_context(gate_of('D'), 3, 2);
    Gate gate(context.gate, 3, 2);
    gate.set_logits(logits, bias);
    REQUIRE(ids_of(gate.native()) == Ids{1, 0});
    CHECK(ids_of(route(*routing_policy(odp(0.9), context), gate, states_of(3, {}))) == Ids{0});
  }

  TEST_CASE("thresholds are medians of the decode tokens, per layer") {
    const Trace trace = trace_of(compact());
    RoutingContext context = routing_context(gate_of('A'), 4, 2, 2);
    context.trace = &trace;
    for (const Json& config :
         {Json{{"policy", "odp"}}, Json{{"policy", "odp"}, {"thresholds", "per-rank median"}}}) {
      Section section(config, "run.json", "/routing");
      const std::vector<double> thresholds = read_odp_thresholds(section, context);
      REQUIRE(thresholds.size() == 2);
      CHECK(near(thresholds[0], 0.25, 1e-7));
      CHECK(near(thresholds[1], 0.125, 1e-7));
    }
  }

  TEST_CASE("numbers, one per layer and one per layer and rank are taken in either key") {
    const RoutingContext context = routing_context(gate_of('A'), 8, 3, 2);
    const std::vector<std::pair<Json, std::vector<double>>> cases = {
        {0.5, {0.5, 0.5, 0.5, 0.5}},
        {{0.1, 0.2}, {0.1, 0.1, 0.2, 0.2}},
        {{{0.1, 0.2}, {0.3, 0.4}}, {0.1, 0.2, 0.3, 0.4}}};
    for (const char* key : {"mu", "thresholds"}) {
      for (const auto& entry : cases) {
        Section section({{"policy", "odp"}, {key, entry.first}}, "run.json", "/routing");
        CHECK(read_odp_thresholds(section, context) == entry.second);
      }
    }
  }

  TEST_CASE("thresholds that cannot be are refused with their place") {
    CHECK(message(odp({0.1, 0.2, 0.3})) ==
          "run.json: /routing/mu: expected 2 elements, one per MoE layer, got 3");
    CHECK(message(odp({{0.1}, {0.1, 0.2}})) ==
          "run.json: /routing/mu/1: expected 1 elements, one per rank beyond the best, got 2");
    CHECK(message(odp({0.1, 1.5})) ==
          "run.json: /routing/mu/1: expected a number in [0, 1], got 1.5");
    CHECK(message(odp({{0.1}, {"x"}})) ==
          "run.json: /routing/mu/1/0: expected a number in [0, 1], got \"x\"");
    CHECK(message(odp("x")) ==
          "run.json: /routing/mu: expected a number in [0, 1], one per layer, [layers][k - 1], got "
          "\"x\"");
    CHECK(message({{"policy", "odp"}, {"thresholds", "median"}}) ==
          "run.json: /routing/thresholds: expected a number in [0, 1], one per layer, [layers][k - "
          "1], \"per-rank median\" or \"published\", got \"median\"");
    CHECK(message({{"policy", "odp"}, {"mu", 0.5}, {"thresholds", "per-rank median"}}) ==
          "run.json: /routing/thresholds: expected either mu or thresholds, got both");
    CHECK(message({{"policy", "odp"}}) ==
          "run.json: /routing/mu: expected thresholds, for there is no trace to take medians of");
    CHECK(message(odp(0.5), 'F') ==
          "run.json: /routing/policy: odp judges ratios of weights, which mean nothing for gate F "
          "(SparseMixer)");
  }

  TEST_CASE("a compact trace without weights has no medians") {
    TraceData data = compact();
    data.weights.clear();
    const Trace trace = trace_of(data);
    RoutingContext context = routing_context(gate_of('A'), 4, 2, 2);
    context.trace = &trace;
    CHECK(user_error_of([&] {
            routing_policy({{"policy", "odp"}}, context);
          }) == "run.json: /routing/policy: odp needs topk_weights, which the trace t lacks");
  }
}

}  // namespace moesim::test
