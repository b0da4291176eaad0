// Loss-free balancing as dual ascent. Steps are powers of two, so that ties are exact.
#include "support/routing.h"
#include "support/testing.h"

namespace moesim::test {
namespace {

using Ids = std::vector<std::size_t>;

// Sigmoids of exactly 1 and 0: constant scores gamma = (1, 0).
const std::vector<float> kOneZero{40, -800};

// The expert that serves each of so many tokens with these scores, k = 1.
Ids experts_of(Json config, std::size_t tokens, const std::vector<std::size_t>& residents = {},
               const std::vector<float>& bias = {}) {
  config["policy"] = "selection_bias";
  const RoutingContext context = routing_context(gate_of('D'), 2, 1);
  const auto policy = routing_policy(config, context);
  Gate gate(context.gate, 2, 1);
  Ids experts;
  experts.reserve(tokens);
  for (std::size_t token = 0; token < tokens; ++token) {
    gate.set_logits(kOneZero, bias);
    experts.push_back(ids_of(route(*policy, gate, states_of(2, residents))).front());
  }
  return experts;
}

std::string message(Json config) {
  config["policy"] = "selection_bias";
  return user_error_of([&] { routing_policy(config, routing_context(gate_of('A'), 8, 2)); });
}

}  // namespace

TEST_SUITE("routing/selection_bias") {
  TEST_CASE("constant scores: prices converge to the gap within two steps and loads average T/2") {
    // Expert 0 serves while b_1 - b_0 <= 1 (the tie goes to the lower id), expert 1 beyond; each
    // window moves the difference by 2u = 1/32. So 32 windows lead to 1, one more beyond it, and
    // from then on each window flips: the difference stays within 2u of 1.
    const std::size_t window = 4;
    const Ids experts = experts_of({{"u", 1.0 / 64}, {"window", window}}, 133 * window);
    std::size_t late = 0;
    for (std::size_t token = 0; token < experts.size(); ++token) {
      const std::size_t number = token / window;
      CAPTURE(number);
      REQUIRE(experts[token] == (number < 33 || number % 2 == 0 ? 0 : 1));
      late += number >= 33 ? experts[token] : 0;
    }
    CHECK(late == 100 * window / 2);
  }

  TEST_CASE("the gradient rule moves by the size of the difference") {
    // B = 2, loads 4 and 0: the difference of prices moves by 4 eta = 1/8 a window.
    const Ids experts =
        experts_of({{"rule", "gradient"}, {"eta", 1.0 / 32}, {"window", 4}}, 4 * 11);
    for (std::size_t number = 0; number < 11; ++number) {
      CAPTURE(number);
      CHECK(experts[4 * number] == (number == 9 ? 1 : 0));
    }
  }

  TEST_CASE("prices start from the static bias and never reach the weights") {
    // 2 for expert 1; it falls by 2u = 1/2 a token to the tie.
    CHECK(experts_of({{"u", 0.25}, {"window", 1}}, 3, {}, {0, 2}) == Ids{1, 1, 0});
    CHECK(experts_of({{"u", 0}}, 3, {}, {0, 2}) == Ids{1, 1, 1});
    GateSpec spec = gate_of('D');
    spec.norm_topk_prob = false;
    const RoutingContext context = routing_context(spec, 2, 1);
    const auto policy =
        routing_policy({{"policy", "selection_bias"}, {"u", 1}, {"window", 1}}, context);
    Gate gate(spec, 2, 1);
    const std::vector<float> one_zero{1, 0};
    gate.set_logits(one_zero, {});
    route(*policy, gate, states_of(2, {}));
    gate.set_logits(one_zero, {});
    const Selection chosen = route(*policy, gate, states_of(2, {}));
    CHECK(ids_of(chosen) == Ids{1});
    CHECK(chosen.weights == std::vector<double>{0.5});
  }

  TEST_CASE("every gate knows a price, groups included") {
    for (const char code : std::string("ABCDEFG")) {
      CAPTURE(code);
      const std::size_t k = code == 'F' ? 2 : 1;
      const RoutingContext context = routing_context(gate_of(code), 4, k);
      const auto policy =
          routing_policy({{"policy", "selection_bias"}, {"u", 2}, {"window", 1}}, context);
      Gate gate(context.gate, 4, k);
      const std::vector<float> logits{3, 2, 1, 0};
      gate.set_logits(logits, {});
      CHECK(ids_of(route(*policy, gate, states_of(4, {}))).front() == 0);
      gate.set_logits(logits, {});
      CHECK(ids_of(route(*policy, gate, states_of(4, {}))).front() == k);
    }
    GateSpec groups = gate_of('D');
    groups.n_group = 2;
    groups.topk_group = 1;
    const auto policy = routing_policy({{"policy", "selection_bias"}, {"u", 2}, {"window", 1}},
                                       routing_context(groups, 4, 1));
    Gate gate(groups, 4, 1);
    const std::vector<float> logits{3, 2, 1, 0};
    // Expert 0's price falls by 2, all others rise by 2: the other group is then the better one.
    for (const std::size_t expected : {0U, 2U}) {
      gate.set_logits(logits, {});
      CHECK(ids_of(route(*policy, gate, states_of(4, {}))) == Ids{expected});
    }
  }

  TEST_CASE("residency: the price of residents rises while too many experts are missing") {
    const Json config = {{"target", "residency"}, {"u", 0.25}, {"window", 1}, {"misses", 0}};
    // Expert 0 is missing; 1 is worth a price above 1, which takes five steps.
    CHECK(experts_of(config, 8, {1}) == Ids{0, 0, 0, 0, 0, 1, 1, 1});
    CHECK(experts_of(config, 8, {0}) == Ids(8, 0));
    // With a quarter of a miss allowed (the default, k / 4) the price falls again to the tie.
    CHECK(experts_of({{"target", "residency"}, {"u", 0.25}, {"window", 1}}, 8, {1}) ==
          Ids{0, 0, 0, 0, 0, 1, 0, 1});
  }

  TEST_CASE("what it needs depends on the setting") {
    const RoutingContext context = routing_context(gate_of('A'), 8, 2);
    const auto balance = routing_policy({{"policy", "selection_bias"}}, context);
    CHECK(balance->needs_logits());
    CHECK(!balance->looks_at_residency());
    const auto residency =
        routing_policy({{"policy", "selection_bias"}, {"target", "residency"}}, context);
    CHECK(residency->looks_at_residency());
    const auto fixed =
        routing_policy({{"policy", "selection_bias"}, {"target", "residency"}, {"u", 0}}, context);
    CHECK(!fixed->looks_at_residency());
    CHECK(!fixed->needs_logits());
  }

  TEST_CASE("parameters out of range are refused with their range") {
    CHECK(message({{"u", -1}}) == "run.json: /routing/u: expected a number >= 0, got -1");
    CHECK(message({{"eta", -1}}) == "run.json: /routing/eta: expected a number >= 0, got -1");
    CHECK(contains(message({{"window", 0}}), "run.json: /routing/window: expected an integer"));
    CHECK(message({{"misses", 3}}) ==
          "run.json: /routing/misses: expected a number in [0, 2], got 3");
    CHECK(contains(message({{"target", "balanse"}}), "nearest: balance"));
    CHECK(contains(message({{"rule", "sing"}}), "nearest: sign"));
  }
}

}  // namespace moesim::test
