// Steering: hand-worked logits.
#include <set>

#include "core/files.h"
#include "support/routing.h"
#include "support/testing.h"

namespace moesim::test {
namespace {

using Ids = std::vector<std::size_t>;

// Mean 1, squares 4 0 1 1, so the deviation is sqrt(1.5) = 1.2247.
const std::vector<float> kLogits{3, 1, 0, 0};
const double kDeviation = std::sqrt(1.5);

Json steering(const Json& more) {
  Json config = {{"policy", "steering"}};
  if (more.is_object()) config.update(more);
  return config;
}

Selection run(const Json& more, const Ids& residents = {}, char gate = 'A') {
  const RoutingContext context = routing_context(gate_of(gate), 4, 2);
  return route(*routing_policy(steering(more), context), context, kLogits, residents);
}

std::string message(const Json& more) {
  return user_error_of(
      [&] { routing_policy(steering(more), routing_context(gate_of('A'), 4, 2)); });
}

double softmax_of_two(double first, double second) { return 1 / (1 + std::exp(second - first)); }

std::vector<double> softmax(std::span<const float> logits) {
  std::vector<double> values;
  values.reserve(logits.size());
  double sum = 0;
  for (const float logit : logits) {
    values.push_back(std::exp(static_cast<double>(logit)));
    sum += values.back();
  }
  for (double& value : values) value /= sum;
  return values;
}

}  // namespace

TEST_SUITE("routing/steering") {
  TEST_CASE("soft: lambda deviations on the named experts, for selection and weights") {
    const Selection weak = run({{"lambda", 0.5}, {"experts", {{2}}}});
    CHECK(ids_of(weak) == Ids{0, 1});  // 0.61 does not pass 1
    const Selection strong = run({{"lambda", 1}, {"experts", {{2}}}});
    CHECK(ids_of(strong) == Ids{0, 2});
    CHECK(near(strong.weights[0], softmax_of_two(3, kDeviation), 1e-7));
    // Suppressing the best: it stays first, and weighs less.
    const Selection less = run({{"lambda", -1}, {"experts", {{0}}}});
    CHECK(ids_of(less) == Ids{0, 1});
    CHECK(near(less.weights[0], softmax_of_two(3 - kDeviation, 1), 1e-7));
    // Without renormalisation the weights are those of all steered logits.
    const Selection all = run({{"lambda", 1}, {"experts", {{2}}}}, {}, 'B');
    const auto expected = softmax(std::vector<float>{3, 1, static_cast<float>(kDeviation), 0});
    CHECK(near(all.weights[1], expected[2], 1e-7));
  }

  TEST_CASE("activate and suppress move to the ends of the row") {
    const Selection activated = run({{"mode", "activate"}, {"experts", {{3}}}});
    CHECK(sorted(ids_of(activated)) == Ids{0, 3});
    CHECK(near(activated.weights[0], 0.5, 1e-5));
    const Selection suppressed = run({{"mode", "suppress"}, {"experts", {{0}}}});
    CHECK(ids_of(suppressed) == Ids{1, 0});  // 0 0 0 behind 1: the lowest id
    CHECK(near(suppressed.weights[0], softmax_of_two(1, 0), 1e-7));
    // eps parts the activated ones, from the seed.
    CHECK(run({{"mode", "activate"}, {"experts", {{2, 3}}}}).ids ==
          run({{"mode", "activate"}, {"experts", {{2, 3}}}}).ids);
  }

  TEST_CASE("which of the activated experts run does not depend on the level of the logits") {
    const RoutingContext context = routing_context(gate_of('A'), 6, 2);
    const Json config = steering({{"mode", "activate"}, {"experts", {{1, 2, 3, 4, 5}}}});
    const auto low = routing_policy(config, context);
    const auto high = routing_policy(config, context);
    std::set<std::vector<std::size_t>> chosen;
    for (int visit = 0; visit < 20; ++visit) {
      const Selection a = route(*low, context, {2, 1, 0, -1, 0.5F, 0.25F}, {});
      const Selection b = route(*high, context, {102, 101, 100, 99, 100.5F, 100.25F}, {});
      CHECK(a.ids == b.ids);
      chosen.insert(ids_of(a));
    }
    CHECK(chosen.size() > 5);
  }

  TEST_CASE("the resident experts as the set") {
    CHECK(ids_of(run({{"lambda", 1}}, {3})) == Ids{0, 3});
    CHECK(ids_of(run({{"lambda", 1}}, {})) == Ids{0, 1});
    const RoutingContext context = routing_context(gate_of('A'), 4, 2);
    CHECK(routing_policy(steering({}), context)->looks_at_residency());
    CHECK(!routing_policy(steering({{"lambda", 0}}), context)->looks_at_residency());
    CHECK(!routing_policy(steering({{"experts", {{2}}}}), context)->looks_at_residency());
  }

  TEST_CASE("layers outside the range, and layers without a list, are the model's own") {
    const RoutingContext context = routing_context(gate_of('A'), 4, 2, 4);
    const auto policy = routing_policy(
        steering({{"lambda", 1}, {"experts", {{2}, {2}, nullptr, {2}}}, {"layers", {1, 2}}}),
        context);
    for (const std::size_t layer : {0U, 1U, 2U, 3U}) {
      Gate gate(context.gate, 4, 2);
      gate.set_logits(kLogits, {});
      const Selection chosen = route(*policy, gate, states_of(4, {}), LayerId(layer));
      CHECK(ids_of(chosen) == (layer == 1 ? Ids{0, 2} : Ids{0, 1}));
    }
  }

  TEST_CASE("it reports the logits that it used and their divergence") {
    const RoutingContext context = routing_context(gate_of('A'), 4, 2);
    const auto policy = routing_policy(steering({{"lambda", 1}, {"experts", {{2}}}}), context);
    Gate gate(context.gate, 4, 2);
    gate.set_logits(kLogits, {});
    const std::vector<Residency> states = states_of(4, {});
    route(*policy, gate, states);
    CHECK(policy->weight_rule() == WeightRule::kAlteredLogits);
    const std::span<const float> altered = policy->altered_logits();
    REQUIRE(altered.size() == 4);
    CHECK(near(altered[2], kDeviation, 1e-7));
    CHECK(altered[0] == 3);
    const std::vector<double> p = softmax(kLogits);
    const std::vector<double> q = softmax(altered);
    double expected = 0;
    for (std::size_t e = 0; e < 4; ++e) expected += p[e] * std::log(p[e] / q[e]);
    const RouterVisit visit{0, 0, LayerId{0}, gate};
    const auto divergence = policy->bias_divergence(visit, ResidencyView(LayerId{0}, states, {}));
    REQUIRE(divergence.has_value());
    CHECK(near(*divergence, expected, 1e-12));
    CHECK(expected > 0.01);
  }

  TEST_CASE("a file in the place of the list") {
    const TemporaryFolder folder;
    write_file_atomically(folder.path() / "experts.json",
                          [](std::ostream& out) { out << "[[2]]"; });
    write_file_atomically(folder.path() / "bad.json", [](std::ostream& out) { out << "[[4]]"; });
    RoutingContext context = routing_context(gate_of('A'), 4, 2);
    context.base_dir = folder.path();
    const auto policy =
        routing_policy(steering({{"lambda", 1}, {"file", "experts.json"}}), context);
    CHECK(ids_of(route(*policy, context, kLogits, {})) == Ids{0, 2});
    CHECK(user_error_of([&] {
            routing_policy(steering({{"file", "bad.json"}}), context);
          }) == "bad.json: /0/0: expected an integer in [0, 3], got 4");
    CHECK(contains(user_error_of([&] {
                     routing_policy(steering({{"file", "none.json"}}), context);
                   }),
                   "none.json"));
  }

  TEST_CASE("what is not a list of experts is refused with its place") {
    CHECK(message({{"lambda", 1.5}}) ==
          "run.json: /routing/lambda: expected a number in [-1, 1], got 1.5");
    CHECK(message({{"experts", 3}}) ==
          "run.json: /routing/experts: expected \"resident\" or an array with a list of experts "
          "per MoE layer, got 3");
    CHECK(message({{"experts", {{1}, {2}}}}) ==
          "run.json: /routing/experts: expected an array of 1 elements, one per MoE layer, got an "
          "array of 2 elements");
    CHECK(message({{"experts", Json::array({5})}}) ==
          "run.json: /routing/experts/0: expected an array, got 5");
    CHECK(message({{"experts", {{4}}}}) ==
          "run.json: /routing/experts/0/0: expected an integer in [0, 3], got 4");
    CHECK(message({{"experts", {{1, 1}}}}) ==
          "run.json: /routing/experts/0/1: expected experts that differ, got 1");
    CHECK(message({{"experts", {{1}}}, {"file", "x.json"}}) ==
          "run.json: /routing/file: expected experts or a file that lists them, got both");
    CHECK(message({{"layers", {0}}}) ==
          "run.json: /routing/layers: expected [first, last], MoE layers counted from 0, got an "
          "array of 1 elements");
    CHECK(message({{"layers", {0, 1}}}) ==
          "run.json: /routing/layers/1: expected an integer in [0, 0], got 1");
    CHECK(contains(message({{"mode", "hard"}}), "known: soft, activate, suppress"));
  }
}

}  // namespace moesim::test
