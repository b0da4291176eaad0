#include "routing/gate.h"

#include "support/routing.h"
#include "support/testing.h"

namespace moesim::test {
namespace {

Json gate_case(const std::string& id) {
  const Json fixture = golden("gates.json");
  for (const Json& entry : fixture.at("cases")) {
    if (entry.at("id") == id) return entry;
  }
  FAIL("no such case: " << id);
  return {};
}

GateSpec spec_of(const Json& entry) {
  GateSpec spec = gate_of(entry.at("rule").get<std::string>().back());
  const Json& given = entry.at("given");
  spec.n_group = given.value("groups", std::size_t{1});
  spec.topk_group = given.value("kept_groups", spec.n_group);
  spec.routed_scaling_factor = given.value("scale", 1.0);
  return spec;
}

std::vector<ExpertId> experts(const std::vector<std::uint16_t>& ids) {
  std::vector<ExpertId> result;
  for (const std::uint16_t id : ids) result.push_back(ExpertId{id});
  return result;
}

}  // namespace

TEST_SUITE("routing/gate") {
  TEST_CASE("the gates of the fixture select and weigh as the models do") {
    for (const char* id :
         {"gate_a", "gate_b", "gate_c_equals_a", "gate_d_zero_bias", "gate_d_bias_selects",
          "gate_d_group_limit", "gate_e", "gate_f", "gate_g"}) {
      CAPTURE(id);
      const Json entry = gate_case(id);
      const Json& given = entry.at("given");
      const auto logits = given.at("logits").get<std::vector<float>>();
      const auto bias = given.value("bias", std::vector<float>{});
      const Json& expected = entry.at("expected");
      Gate gate(spec_of(entry), logits.size(), expected.at("selected").size());
      gate.set_logits(logits, bias);
      CHECK(Json(ids_of(gate.native())) == expected.at("selected"));
      const auto weights = expected.at("weights").get<std::vector<double>>();
      for (std::size_t i = 0; i < weights.size(); ++i) {
        CAPTURE(i);
        // F's 0.995 is no float; the other logits are.
        CHECK(
            near(gate.native().weights[i], weights[i], entry.at("rule") == "gate F" ? 1e-8 : 1e-9));
      }
    }
  }

  TEST_CASE("equal logits rank by lower id") {
    const std::vector<float> logits{1, 2, 2, 0, 2};
    Gate gate(gate_of('A'), 5, 4);
    gate.set_logits(logits, {});
    CHECK(ids_of(gate.native()) == std::vector<std::size_t>{1, 2, 4, 0});
    const std::vector<std::size_t> ranks{3, 0, 1, 4, 2};
    for (std::uint16_t e = 0; e < 5; ++e) CHECK(gate.rank(ExpertId{e}) == ranks[e]);
  }

  TEST_CASE("A and C agree on random logits, and B is A before the division") {
    Rng rng(7);
    for (int round = 0; round < 50; ++round) {
      const std::vector<float> logits = random_logits(rng, 13);
      Gate a(gate_of('A'), 13, 4);
      Gate b(gate_of('B'), 13, 4);
      Gate c(gate_of('C'), 13, 4);
      for (Gate* gate : {&a, &b, &c}) gate->set_logits(logits, {});
      CHECK(ids_of(a.native()) == ids_of(b.native()));
      CHECK(ids_of(a.native()) == ids_of(c.native()));
      const auto& w = b.native().weights;
      const double sum = std::accumulate(w.begin(), w.end(), 0.0);
      CHECK(sum < 1);
      for (std::size_t i = 0; i < 4; ++i) {
        CHECK(near(a.native().weights[i], c.native().weights[i], 1e-12));
        CHECK(near(a.native().weights[i], w[i] / sum, 1e-12));
      }
    }
  }

  TEST_CASE("D without bias and groups selects the set of A") {
    Rng rng(8);
    for (int round = 0; round < 50; ++round) {
      const std::vector<float> logits = random_logits(rng, 16);
      Gate a(gate_of('A'), 16, 4);
      Gate d(gate_of('D'), 16, 4);
      a.set_logits(logits, {});
      d.set_logits(logits, {});
      CHECK(ids_of(a.native()) == ids_of(d.native()));
    }
  }

  TEST_CASE("probabilities sum to 1 and are relative_probability over its total") {
    Rng rng(9);
    const std::vector<float> bias{0.1F, -0.2F, 0.3F, 0, 0, 0.05F, 0, 0, -0.4F};
    // Small letters: with a selection bias.
    for (const char name : std::string("ABCDEFGbd")) {
      CAPTURE(name);
      const bool biased = name >= 'a';
      const char code = biased ? static_cast<char>(name - 'a' + 'A') : name;
      const std::size_t k = code == 'F' ? 2 : code == 'G' ? 1 : 3;
      const std::vector<float> logits = random_logits(rng, 9);
      Gate gate(gate_of(code), 9, k);
      gate.set_logits(logits, biased ? std::span<const float>(bias) : std::span<const float>());
      std::vector<double> relative;
      for (std::uint16_t e = 0; e < 9; ++e) {
        relative.push_back(gate.relative_probability(ExpertId{e}));
      }
      const auto p = gate.probabilities();
      CHECK(near(std::accumulate(p.begin(), p.end(), 0.0), 1, 1e-12));
      for (std::size_t e = 0; e < 9; ++e) {
        CHECK(near(relative[e] / gate.total_relative_probability(), p[e], 1e-12));
      }
    }
  }

  TEST_CASE("a bias on a softmax gate takes part in the selection and not in the weights") {
    const std::vector<float> logits{2, 1, 0.5F, -1};
    const std::vector<float> bias{0, -1, 0, 1};
    Gate gate(gate_of('A'), 4, 2);
    gate.set_logits(logits, bias);
    CHECK(ids_of(gate.native()) == std::vector<std::size_t>{3, 0});
    CHECK(near(gate.native().weights[1], 1 / (1 + std::exp(-3.0)), 1e-12));
    CHECK(gate.rank(ExpertId{1}) == 3);
  }

  TEST_CASE("excluded groups have a ranking of minus infinity and do not widen the range") {
    GateSpec spec = gate_of('D');
    spec.n_group = 2;
    spec.topk_group = 1;
    const std::vector<float> logits{1, 1, 2, -9};
    Gate gate(spec, 4, 1);
    gate.set_logits(logits, {});
    CHECK(ids_of(gate.native()) == std::vector<std::size_t>{0});
    CHECK(std::isinf(gate.ranking()[2]));
    CHECK(gate.ranking_range() == 0);
    CHECK(gate.logit_range() == 11);
  }

  TEST_CASE("weights of another selection follow the rule restricted to it") {
    const std::vector<float> logits{2, 1, 0.5F, -1};
    const std::vector<ExpertId> ids = experts({0, 3});
    std::vector<double> weights(2);
    Gate a(gate_of('A'), 4, 2);
    a.set_logits(logits, {});
    a.weights(ids, weights);
    CHECK(near(weights[0], 1 / (1 + std::exp(-3.0)), 1e-12));
    Gate b(gate_of('B'), 4, 2);
    b.set_logits(logits, {});
    b.weights(ids, weights);
    CHECK(near(weights[1], b.probabilities()[3], 1e-15));
    // F: with 1 passed over, 2 is judged as if 1 did not exist: nothing is near it.
    const std::vector<float> close{2, 0.997F, 0.995F};
    Gate f(gate_of('F'), 3, 2);
    f.set_logits(close, {});
    f.weights(experts({0, 2}), weights);
    CHECK(weights == std::vector<double>{1, 1});
  }

  TEST_CASE("logits far apart give finite weights") {
    const std::vector<float> logits{3e4F, -3e4F, -2.9e4F, 0};
    std::vector<double> weights(2);
    for (const char code : std::string("ACE")) {
      CAPTURE(code);
      Gate gate(gate_of(code), 4, 2);
      gate.set_logits(logits, {});
      gate.weights(experts({1, 2}), weights);
      CHECK(near(weights[0] + weights[1], 1, 1e-12));
    }
  }

  TEST_CASE("a compact visit has the recorded selection and weights") {
    const std::vector<ExpertId> ids = experts({5, 2, 7});
    const std::vector<float> recorded{0.5F, 0.25F, 0.25F};
    Gate gate(gate_of('A'), 8, 3);
    gate.set_recorded(ids, recorded);
    CHECK(!gate.has_logits());
    CHECK(ids_of(gate.native()) == std::vector<std::size_t>{5, 2, 7});
    CHECK(gate.native().weights == std::vector<double>{0.5, 0.25, 0.25});
    std::vector<double> weights(2);
    gate.weights(experts({5, 7}), weights);
    CHECK(near(weights[0], 2.0 / 3));
    CHECK_THROWS_AS(gate.weights(experts({5, 1}), weights), InvariantError);
  }

  TEST_CASE("a recording of more experts than k is cut, and renormalised where the gate does") {
    const std::vector<ExpertId> ids = experts({5, 2, 7});
    const std::vector<float> recorded{0.5F, 0.25F, 0.25F};
    Gate a(gate_of('A'), 8, 2);
    a.set_recorded(ids, recorded);
    CHECK(ids_of(a.native()) == std::vector<std::size_t>{5, 2});
    CHECK(near(a.native().weights[0], 2.0 / 3));
    Gate b(gate_of('B'), 8, 2);
    b.set_recorded(ids, recorded);
    CHECK(b.native().weights == std::vector<double>{0.5, 0.25});
    b.set_recorded(ids, {});
    CHECK(b.native().weights.empty());
  }

  TEST_CASE("a gate that cannot be is refused") {
    GateSpec groups = gate_of('D');
    groups.n_group = 3;
    CHECK(user_error_of([] { Gate(gate_of('F'), 8, 3); }) == "gate F: expected k = 2, got 3");
    CHECK(user_error_of([] { Gate(gate_of('G'), 8, 2); }) == "gate G: expected k = 1, got 2");
    CHECK(user_error_of([] { Gate(gate_of('A'), 8, 9); }) ==
          "gate A: expected k in [1, 8], the number of experts, got 9");
    CHECK(user_error_of([&] { Gate(groups, 8, 2); }) ==
          "gate D: expected an n_group that divides the 8 experts, got 3");
    groups.n_group = 4;
    groups.topk_group = 5;
    CHECK(user_error_of([&] { Gate(groups, 8, 2); }) ==
          "gate D: expected topk_group in [1, 4], got 5");
    groups.topk_group = 1;
    CHECK(user_error_of([&] { Gate(groups, 8, 3); }) ==
          "gate D: expected k <= 2, the experts of 1 of 4 groups, got 3");
  }
}

}  // namespace moesim::test
