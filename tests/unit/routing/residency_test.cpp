// Policies that avoid misses in their own ways: cecar, drop_cold, bounded_regret.
#include "support/routing.h"
#include "support/scenario.h"
#include "support/testing.h"

namespace moesim::test {
namespace {

using Ids = std::vector<std::size_t>;

std::string message(const Json& config) {
  return user_error_of([&] { routing_policy(config, routing_context(gate_of('A'), 8, 2)); });
}

Selection once(const Json& config, char gate, std::size_t k, const std::vector<float>& logits,
               const std::vector<std::size_t>& residents) {
  const RoutingContext context = routing_context(gate_of(gate), logits.size(), k);
  return route(*routing_policy(config, context), context, logits, residents);
}

double sum(const Selection& chosen) {
  return std::accumulate(chosen.weights.begin(), chosen.weights.end(), 0.0);
}

// A compact visit of experts 0, 1, 2 with these weights; gate B keeps them as they are.
Selection drop_cold(double cold_share, const std::vector<float>& weights,
                    const std::vector<std::size_t>& residents) {
  const RoutingContext context = routing_context(gate_of('B'), 4, weights.size());
  std::vector<ExpertId> ids;
  for (std::size_t e = 0; e < weights.size(); ++e) ids.push_back(ExpertId(e));
  Gate gate(context.gate, 4, weights.size());
  gate.set_recorded(ids, weights);
  return route(*routing_policy({{"policy", "drop_cold"}, {"F", cold_share}}, context), gate,
               states_of(4, residents));
}

Json cecar(const Json& more) {
  Json config = {{"policy", "cecar"}, {"score", "lru"}, {"tau", 1}, {"q", 2}};
  config.update(more);
  return config;
}

}  // namespace

TEST_SUITE("routing/residency") {
  TEST_CASE("cecar: what is resident gets the gap to the q-th logit, the newest most of it") {
    const RoutingContext context = routing_context(gate_of('A'), 6, 2);
    const auto policy = routing_policy(cecar(Json::object()), context);
    Gate gate(context.gate, 6, 2);
    const auto visit = [&](const std::vector<float>& logits, const Ids& residents) {
      gate.set_logits(logits, {});
      return ids_of(route(*policy, gate, states_of(6, residents)));
    };
    // Nothing resident: the top expert alone may be missing, nothing fills the second place.
    CHECK(visit({3, 2, 1, 0, 0, 0}, {}) == Ids{0});
    // Resident 0: a bonus of 3 - 2 times 1 - 1 / (1 + 1e-5), next to nothing; 1 is missing.
    CHECK(visit({2, 3, 1, 0, 0, 0}, {0}) == Ids{1, 0});
    // Now 0 ran after 1: its place is 1 and its share 1 - 1/2, that of 1 is about 0. Gap 1:
    // 0 has 2.9 + 0.5, 1 has 3.2, 2 has 3.9 and is missing.
    CHECK(visit({2.9F, 3.2F, 4.2F, 0, 0, 0}, {0, 1}) == Ids{2, 0});
  }

  TEST_CASE("cecar: the inverted sign favours the oldest") {
    const RoutingContext context = routing_context(gate_of('A'), 4, 2);
    for (const bool inverted : {false, true}) {
      const auto policy = routing_policy(cecar({{"inverted_sign", inverted}}), context);
      Gate gate(context.gate, 4, 2);
      const std::vector<float> first{3, 2, 0, 0};
      gate.set_logits(first, {});
      REQUIRE(ids_of(route(*policy, gate, states_of(4, {0, 1}))) == Ids{0, 1});  // 1 is newer
      const std::vector<float> then{0, 0, 4, 2};
      gate.set_logits(then, {});
      const Selection chosen = route(*policy, gate, states_of(4, {0, 1}));
      CHECK(ids_of(chosen) == (inverted ? Ids{2, 0} : Ids{2, 1}));
    }
  }

  TEST_CASE("cecar: without filling only the first k of the ranking are looked at") {
    const std::vector<float> logits{3, 2, 1, 0};
    const Selection filled = once(cecar({{"q", 1}}), 'A', 2, logits, {2});
    CHECK(ids_of(filled) == Ids{0, 2});
    CHECK(near(filled.weights[0], 1 / (1 + std::exp(-2.0)), 1e-12));
    const Selection bare = once(cecar({{"q", 1}, {"fill", false}}), 'A', 2, logits, {2});
    CHECK(ids_of(bare) == Ids{0});
    CHECK(near(bare.weights[0], 1 / (1 + std::exp(-1.0)), 1e-12));  // the mass of 1 is lost
    const Selection raw = once(cecar({{"q", 1}, {"fill", false}}), 'B', 2, logits, {2});
    const double all = 1 + std::exp(-1.0) + std::exp(-2.0) + std::exp(-3.0);
    CHECK(near(raw.weights[0], 1 / all, 1e-12));
  }

  TEST_CASE("cecar: q is 9 with filling, k without, and never more than there are") {
    // Delta is 9 - 1 with q = 9 and 9 - 8 with q = k = 2. Expert 9 (-3) gets half of it.
    const std::vector<float> logits{9, 8, 7, 6, 5, 4, 3, 2, 1, -3};
    const std::vector<std::size_t> residents{8, 9};
    Json config = {{"policy", "cecar"}, {"score", "lru"}, {"tau", 1}, {"inverted_sign", true}};
    // By id 8 is more recent than 9; inverted, 9 has the whole bonus: -3 + 8 = 5 against 8 of 1.
    CHECK(ids_of(once(config, 'A', 2, logits, residents)) == Ids{0, 9});
    config["q"] = 2;
    CHECK(ids_of(once(config, 'A', 2, logits, residents)) == Ids{0, 8});
    const Json few = {{"policy", "cecar"}};
    CHECK(ids_of(once(few, 'A', 2, {1, 0, -1}, {})) == Ids{0, 1});
  }

  TEST_CASE("cecar: the bonus as a divergence of the softmax") {
    const RoutingContext context = routing_context(gate_of('A'), 4, 2);
    const auto policy = routing_policy(cecar({{"inverted_sign", true}}), context);
    Gate gate(context.gate, 4, 2);
    const std::vector<float> logits{1, 0, 0, 0};
    gate.set_logits(logits, {});
    const std::vector<Residency> states = states_of(4, {3});
    const ResidencyView view(LayerId{0}, states, nullptr);
    const RouterVisit visit{0, 0, LayerId{0}, gate};
    Selection chosen;
    policy->route(visit, view, chosen);
    // Inverted, a single resident has the whole gap of 1.
    const double p = 1 / (std::exp(1.0) + 3);
    CHECK(near(policy->bias_divergence(visit, view).value(),
               std::log(1 + (std::exp(1.0) - 1) * p) - p, 1e-12));
  }

  TEST_CASE("cecar: its own recency is the score of the cache's lru") {
    Scenario scenario;
    scenario.config["device"] = nullptr;
    scenario.config["routing"] = {{"policy", "cecar"}, {"tau", 2}, {"score", "lru"}};
    const Json own = result_json(scenario.run());
    scenario.config["routing"]["score"] = "eviction";
    const Json cache = result_json(scenario.run());
    CHECK(own.at("cache") == cache.at("cache"));
    CHECK(own.at("routing") == cache.at("routing"));
    CHECK(own.at("routing").at("agreement") < 0.9);
    // At most tau misses a visit.
    CHECK(own.at("cache").at("misses") <= 2 * 4 * 64);
  }

  TEST_CASE("cecar refuses values out of range") {
    CHECK(message({{"policy", "cecar"}, {"tau", 3}}) ==
          "run.json: /routing/tau: expected an integer in [1, 2], got 3");
    CHECK(message({{"policy", "cecar"}, {"q", 9}}) ==
          "run.json: /routing/q: expected an integer in [1, 8], got 9");
    CHECK(message({{"policy", "cecar"}, {"score", "lfu"}}) ==
          "run.json: /routing/score: unknown value \"lfu\"; known: eviction, lru; nearest: lru");
  }

  TEST_CASE("drop_cold drops what is missing and light, never the best, and keeps the sum") {
    // A third of F = 0.75 is a share of 0.25.
    const Selection chosen = drop_cold(0.75, {0.5F, 0.2F, 0.1F}, {});
    CHECK(ids_of(chosen) == Ids{0, 1});  // 0.2 is a quarter of 0.8, which is not less
    CHECK(near(sum(chosen), 0.8, 1e-7));
    CHECK(near(chosen.weights[0] / chosen.weights[1], 2.5, 1e-6));
    CHECK(ids_of(drop_cold(0.75, {0.5F, 0.2F, 0.1F}, {2})) == Ids{0, 1, 2});
    CHECK(ids_of(drop_cold(1, {0.5F, 0.2F, 0.1F}, {})) == Ids{0});
    CHECK(ids_of(drop_cold(9, {0.1F, 0.5F, 0.2F}, {})) == Ids{1});
    CHECK(ids_of(drop_cold(0, {0.5F, 0.2F, 0}, {})) == Ids{0, 1, 2});
    CHECK(message({{"policy", "drop_cold"}, {"F", -1}}) ==
          "run.json: /routing/F: expected a number >= 0, got -1");
  }

  TEST_CASE("drop_cold: an expert in flight is missing") {
    const RoutingContext context = routing_context(gate_of('A'), 4, 2);
    Gate gate(context.gate, 4, 2);
    const std::vector<float> logits{3, 0, -1, -2};
    gate.set_logits(logits, {});
    std::vector<Residency> states = states_of(4, {0});
    states[1] = Residency::kInFlight;
    const auto policy = routing_policy({{"policy", "drop_cold"}}, context);
    CHECK(ids_of(route(*policy, gate, states)) == Ids{0});
  }

  TEST_CASE("bounded_regret: the cheapest swaps, as many and as dear as allowed") {
    const std::vector<float> logits{5, 4, 3, 2.5F, 2, 0};
    Json config = {{"policy", "bounded_regret"}, {"score", "logit"}, {"regret", 1}};
    const Ids residents{0, 3, 4, 5};
    // k = 3: 2 (3.0) gives way to 3 (2.5); 1 against 4 would lose 2.
    CHECK(ids_of(once(config, 'A', 3, logits, residents)) == Ids{0, 1, 3});
    config["regret"] = 2;
    const Selection two = once(config, 'A', 3, logits, residents);
    CHECK(ids_of(two) == Ids{0, 4, 3});
    CHECK(near(sum(two), 1, 1e-12));
    config["max_swaps"] = 1;
    CHECK(ids_of(once(config, 'A', 3, logits, residents)) == Ids{0, 1, 3});
    config["max_swaps"] = 2;
    config["candidates"] = 4;
    CHECK(ids_of(once(config, 'A', 3, logits, residents)) == Ids{0, 1, 3});
    config["candidates"] = 3;
    CHECK(ids_of(once(config, 'A', 3, logits, residents)) == Ids{0, 1, 2});
    CHECK(ids_of(once(config, 'A', 3, logits, {1, 2})) == Ids{0, 1, 2});
  }

  TEST_CASE("bounded_regret: the score is a probability, a sigmoid, or the logit") {
    const std::vector<float> logits{2, 0, -1, -3};
    const auto swapped = [&](char gate, const Json& more) {
      Json config = {{"policy", "bounded_regret"}};
      config.update(more);
      return ids_of(once(config, gate, 2, logits, {2})) == Ids{0, 2};
    };
    double all = 0;
    for (const float z : logits) all += std::exp(static_cast<double>(z));
    const double softmax = (1 - std::exp(-1.0)) / all;
    CHECK(swapped('A', {{"regret", softmax + 1e-9}}));
    CHECK(!swapped('A', {{"regret", softmax - 1e-9}}));
    const double sigmoid = 0.5 - 1 / (1 + std::exp(1.0));
    CHECK(swapped('E', {{"regret", sigmoid + 1e-9}}));
    CHECK(!swapped('E', {{"regret", sigmoid - 1e-9}}));
    CHECK(swapped('E', {{"regret", 1}, {"score", "logit"}}));
    CHECK(!swapped('E', {{"regret", 0.999}, {"score", "logit"}}));
  }

  TEST_CASE("bounded_regret: the selection bias is part of the score") {
    const RoutingContext context = routing_context(gate_of('D'), 3, 1);
    Gate gate(context.gate, 3, 1);
    const std::vector<float> logits{0, 0, 0};
    const std::vector<float> bias{0.3F, 0.2F, 0};
    gate.set_logits(logits, bias);
    for (const double regret : {0.09, 0.11}) {
      const auto policy =
          routing_policy({{"policy", "bounded_regret"}, {"regret", regret}}, context);
      CHECK(ids_of(route(*policy, gate, states_of(3, {1}))) == (regret > 0.1 ? Ids{1} : Ids{0}));
    }
  }

  TEST_CASE("bounded_regret refuses values out of range") {
    CHECK(message({{"policy", "bounded_regret"}, {"candidates", 1}}) ==
          "run.json: /routing/candidates: expected an integer in [2, 8], got 1");
    CHECK(message({{"policy", "bounded_regret"}, {"regret", -1}}) ==
          "run.json: /routing/regret: expected a number >= 0, got -1");
    CHECK(message({{"policy", "bounded_regret"}, {"score", "x"}}) ==
          "run.json: /routing/score: unknown value \"x\"; known: probability, logit; nearest: "
          "logit");
  }
}

}  // namespace moesim::test
