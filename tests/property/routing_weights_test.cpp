// What holds for the weights of every routing policy, and that routing takes no memory.
#include "metrics/routing_quality.h"
#include "support/allocation_counter.h"
#include "support/routing_registry.h"

namespace moesim::test {
namespace {

constexpr double kTolerance = 1e-12;  // relative

double sum_of(std::span<const double> values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

std::vector<double> probabilities_of(Gate& gate, const Selection& chosen) {
  std::vector<double> values;
  for (const ExpertId id : chosen.ids) values.push_back(gate.probabilities()[index(id)]);
  return values;
}

std::vector<double> by_the_gate(Gate& gate, const Selection& chosen) {
  std::vector<double> weights(chosen.ids.size());
  gate.weights(chosen.ids, weights);
  return weights;
}

void scale(std::vector<double>& values, double factor) {
  for (double& value : values) value *= factor;
}

// Routes every visit of the case and calls `check(policy, gate, chosen)` after each, while what the
// policy says of the visit is valid.
template <class Check>
void for_every_visit(const RoutingCase& it, Check&& check) {
  const auto policy = it.policy();
  Gate gate = it.gate();
  policy->begin_sequence(0);
  for (std::size_t t = 0; t < it.visits.size(); ++t) {
    gate.set_logits(it.visits[t].logits, {});
    const Selection chosen =
        route(*policy, gate, it.visits[t].states, LayerId{0}, static_cast<std::uint32_t>(t));
    check(*policy, gate, chosen);
  }
}

// The weights that `rule` gives to a selection; for kShareOfCandidates, whose candidates nobody
// knows but the policy, those in its proportions. For kAlteredLogits the gate is set to those.
std::vector<double> expected(WeightRule rule, Gate& gate, const Selection& chosen) {
  const bool by_gate = rule == WeightRule::kGate || rule == WeightRule::kKeepsNativeSum ||
                       rule == WeightRule::kAlteredLogits;
  std::vector<double> weights =
      by_gate ? by_the_gate(gate, chosen) : probabilities_of(gate, chosen);
  switch (rule) {
    case WeightRule::kGate:
    case WeightRule::kAlteredLogits:
    case WeightRule::kProbabilities:
      break;
    case WeightRule::kRenormalised:
      scale(weights, 1 / sum_of(weights));
      break;
    case WeightRule::kKeepsNativeSum:
      scale(weights, sum_of(gate.native().weights) / sum_of(weights));
      break;
    case WeightRule::kShareOfCandidates:
      scale(weights, sum_of(chosen.weights) / sum_of(weights));
      break;
    case WeightRule::kOwn:
      FAIL("a policy of this project follows a rule");
      break;
  }
  return weights;
}

// The candidates are k, and those that run are among them.
void check_share(Gate& gate, const Selection& chosen) {
  const double share = sum_of(chosen.weights);
  REQUIRE(share <= 1 + kTolerance);
  std::vector<double> best(gate.probabilities().begin(), gate.probabilities().end());
  std::sort(best.rbegin(), best.rend());
  const double most = sum_of(std::span(best).first(gate.k()));
  REQUIRE(share >= sum_of(probabilities_of(gate, chosen)) / most - kTolerance);
  if (chosen.ids.size() == gate.k()) REQUIRE(near(share, 1, kTolerance));
}

}  // namespace

TEST_SUITE("property/routing_weights") {
  TEST_CASE("weights follow the rule that the policy declares") {
    for_every_policy(21, [](const RoutingCase& it) {
      for_every_visit(it, [&](const RoutingPolicy& policy, Gate& gate, const Selection& chosen) {
        const WeightRule rule = policy.weight_rule();
        Gate altered = it.gate();
        const bool alters = rule == WeightRule::kAlteredLogits;
        if (alters) altered.set_logits(policy.altered_logits(), {});
        const std::vector<double> weights = expected(rule, alters ? altered : gate, chosen);
        for (std::size_t i = 0; i < weights.size(); ++i) {
          REQUIRE(near(chosen.weights[i], weights[i], kTolerance * (1 + weights[i])));
        }
        if (rule == WeightRule::kShareOfCandidates) check_share(gate, chosen);
      });
    });
  }

  // Experts that stay only gain weight, so half of all differences is what the others lost.
  TEST_CASE("total variation is the dropped mass where no more than the top k run") {
    for_every_policy(22, [](const RoutingCase& it) {
      if (it.context.gate.n_group > 1) return;  // its selection is not the top k
      const std::vector<Selection> routed = route_all(it);
      Gate gate = it.gate();
      for (std::size_t t = 0; t < routed.size(); ++t) {
        if (routed[t].ids.size() > it.context.k) continue;
        RoutingQuality quality(it.context.shape, it.context.k, it.context.k, 1);
        gate.set_logits(it.visits[t].logits, {});
        quality.add(LayerId{0}, gate, routed[t]);
        const RoutingProxies proxies = quality.result().mean;
        REQUIRE(near(proxies.total_variation.value(), proxies.dropped_mass.value(), kTolerance));
      }
    });
  }

  TEST_CASE("routing takes no memory once every visit has been seen") {
    for_every_policy(23, [](const RoutingCase& it) {
      const auto policy = it.policy();
      Gate gate = it.gate();
      Selection chosen;
      chosen.reserve(policy->max_experts());
      std::uint64_t taken = 0;
      for (const bool counts : {false, true}) {
        const std::uint64_t before = allocations();
        for (std::size_t t = 0; t < it.visits.size(); ++t) {
          gate.set_logits(it.visits[t].logits, {});
          route_into(*policy, gate, it.visits[t].states, LayerId{0}, static_cast<std::uint32_t>(t),
                     chosen);
        }
        if (counts) taken = allocations() - before;
      }
      CHECK(taken == 0);
    });
  }
}

}  // namespace moesim::test
