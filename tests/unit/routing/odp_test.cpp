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

struct Dropped {
  std::vector<std::size_t> by_layer_and_rank;  // [layers, k - 1]
  std::size_t all = 0;
};

// Every token of the context's trace through the policy.
Dropped drops_of(const Json& config, const RoutingContext& context) {
  const auto policy = routing_policy(config, context);
  Gate gate(context.gate, context.shape.experts, context.k);
  std::vector<float> logits(context.shape.experts);
  Dropped dropped;
  for (std::size_t l = 0; l < context.shape.layers; ++l) {
    std::vector<std::size_t> of_rank(context.k - 1, 0);
    for (std::size_t token = 0; token < context.shape.tokens; ++token) {
      context.trace->read_logits(token, LayerId(l), logits);
      gate.set_logits(logits, {});
      const Selection chosen = route(*policy, gate, states_of(context.shape.experts, {}),
                                     LayerId(l), static_cast<std::uint32_t>(token));
      for (std::size_t r = 1; r < context.k; ++r) {
        const ExpertId id = gate.native().ids[r];
        const bool runs = std::find(chosen.ids.begin(), chosen.ids.end(), id) != chosen.ids.end();
        of_rank[r - 1] += runs ? 0 : 1;
        dropped.all += runs ? 0 : 1;
      }
    }
    dropped.by_layer_and_rank.insert(dropped.by_layer_and_rank.end(), of_rank.begin(),
                                     of_rank.end());
  }
  return dropped;
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

  TEST_CASE("per-layer medians drop half of the tokens of a rank, and never more") {
    Rng rng(5);
    for (const std::size_t tokens : {1U, 2U, 7U, 64U, 301U}) {
      for (const bool ties : {false, true}) {
        TraceData data;
        data.shape = {tokens, 2, 8};
        data.logits_dtype = "F32";
        for (std::size_t i = 0; i < tokens * 16; ++i) {
          const double z = 2 * rng.normal();
          data.logits.push_back(static_cast<float>(ties ? std::round(z) : z));
        }
        const Trace trace = trace_of(data);
        for (const std::size_t k : {2U, 4U}) {
          RoutingContext context = routing_context(gate_of('A'), 8, k, 2);
          context.shape.tokens = tokens;
          context.trace = &trace;
          const Dropped dropped = drops_of({{"policy", "odp"}}, context);
          for (const std::size_t of_rank : dropped.by_layer_and_rank) {
            CHECK(of_rank <= tokens / 2);
            if (!ties) CHECK(of_rank == tokens / 2);
          }
          // A quarter of all evaluations of a top-2 router.
          if (!ties && k == 2 && tokens == 64) CHECK(4 * dropped.all == 2 * 2 * 64);
        }
      }
    }
  }

  TEST_CASE("the published thresholds and block sets are the fixture's") {
    const Json fixture = golden("odp_thresholds_mixtral.json");
    const RoutingContext context = routing_context(gate_of('A'), 8, 2, 32);
    const auto thresholds = [&](const Json& blocks) {
      Section section({{"policy", "odp"}, {"thresholds", "published"}, {"blocks", blocks}},
                      "run.json", "/routing");
      return read_odp_thresholds(section, context);
    };
    const auto all = fixture.at("mu").get<std::vector<double>>();
    CHECK(thresholds("all") == all);
    for (const auto& set : fixture.at("block_sets").items()) {
      std::vector<double> expected(32, 0);
      for (const std::size_t layer : set.value()) expected[layer] = all[layer];
      CHECK(thresholds(set.key()) == expected);
      CHECK(thresholds(set.value()) == expected);
      // The median of a layer drops half of its tokens' second experts.
      const double saved = 100.0 / 4 * static_cast<double>(set.value().size()) / 32;
      CHECK(near(saved, fixture.at("evaluations_saved_percent").at(set.key())));
    }
    const Json place = {{"policy", "odp"}, {"thresholds", "published"}};
    CHECK(message(place) ==
          "run.json: /routing/thresholds: the published thresholds are those of Mixtral-8x7B, 32 "
          "layers and k = 2; here are 2 layers and k = 2");
    CHECK(message({{"policy", "odp"}, {"mu", 0.5}, {"blocks", "ten"}}) ==
          "run.json: /routing/blocks: the block set ten is of Mixtral-8x7B, 32 layers; here are 2");
    CHECK(message({{"policy", "odp"}, {"mu", 0.5}, {"blocks", {0, 2}}}) ==
          "run.json: /routing/blocks: expected MoE layers in [0, 1], got 2");
    CHECK(message({{"policy", "odp"}, {"mu", 0.5}, {"blocks", "some"}}) ==
          "run.json: /routing/blocks: unknown value \"some\"; known: all, ten, twenty; nearest: "
          "all");
  }

  TEST_CASE("outside the blocks every expert runs") {
    const RoutingContext context = routing_context(gate_of('A'), 3, 2, 2);
    const auto policy = routing_policy({{"policy", "odp"}, {"mu", 1}, {"blocks", {1}}}, context);
    Gate gate(context.gate, 3, 2);
    const std::vector<float> logits{5, 0, 0};
    gate.set_logits(logits, {});
    CHECK(ids_of(route(*policy, gate, states_of(3, {}), LayerId{0})) == Ids{0, 1});
    CHECK(ids_of(route(*policy, gate, states_of(3, {}), LayerId{1})) == Ids{0});
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
