// What holds for every routing policy, those not yet written included.
#include "support/routing_registry.h"

namespace moesim::test {
namespace {

constexpr std::size_t kExperts = kLayerExperts;
constexpr std::size_t kNative = 4;

std::vector<GateSpec> gates_of_four() {
  std::vector<GateSpec> specs;
  for (const GateSpec& gate : all_gates()) {
    if (k_of(gate) == kNative) specs.push_back(gate);
  }
  return specs;
}

bool same(const Selection& a, const Selection& b) {
  return a.ids == b.ids && a.weights == b.weights;
}

}  // namespace

TEST_SUITE("property/routing") {
  TEST_CASE("a policy returns distinct experts, one to its maximum, with finite weights") {
    for_every_policy(11, [](const RoutingCase& it) {
      const std::size_t most = it.policy()->max_experts();
      for (const Selection& chosen : route_all(it)) {
        const std::set<ExpertId> distinct(chosen.ids.begin(), chosen.ids.end());
        REQUIRE(distinct.size() == chosen.ids.size());
        REQUIRE(chosen.ids.size() >= 1);
        REQUIRE(chosen.ids.size() <= most);
        REQUIRE(index(*distinct.rbegin()) < kExperts);
        REQUIRE(chosen.weights.size() == chosen.ids.size());
        for (const double weight : chosen.weights) {
          REQUIRE(std::isfinite(weight));
          REQUIRE(weight >= 0);
        }
      }
    });
  }

  TEST_CASE("the keep_top best experts always run") {
    for_every_policy(11, [](const RoutingCase& it) {
      std::size_t keep_top = 0;
      const std::string name = it.config.at("policy");
      for (const Parameter& p : Registry<RoutingPolicy>::instance().all().at(name).parameters) {
        if (p.name != "keep_top") continue;
        const std::size_t usual = std::min<std::size_t>(2, it.context.k - 1);  // its default
        keep_top = it.config.value("keep_top", usual);
      }
      const std::vector<Selection> routed = route_all(it);
      Gate gate = it.gate();
      for (std::size_t t = 0; t < it.visits.size(); ++t) {
        gate.set_logits(it.visits[t].logits, {});
        for (std::size_t rank = 0; rank < keep_top; ++rank) {
          REQUIRE(std::count(routed[t].ids.begin(), routed[t].ids.end(), gate.native().ids[rank]) ==
                  1);
        }
      }
    });
  }

  TEST_CASE("equal inputs give equal outputs") {
    for_every_policy(11, [](const RoutingCase& it) {
      const std::vector<Selection> once = route_all(it);
      const std::vector<Selection> twice = route_all(it);
      for (std::size_t t = 0; t < it.visits.size(); ++t) REQUIRE(same(once[t], twice[t]));
    });
  }

  TEST_CASE("a policy that says it does not look at residency does not") {
    for_every_policy(11, [](const RoutingCase& it) {
      if (it.policy()->looks_at_residency()) return;
      std::vector<RandomVisit> other = it.visits;
      Rng rng(12);
      for (RandomVisit& visit : other) visit.states = random_states(rng, kExperts);
      const std::vector<Selection> once = route_all(it);
      const std::vector<Selection> twice = route_all(it.config, it.context, other);
      for (std::size_t t = 0; t < it.visits.size(); ++t) REQUIRE(same(once[t], twice[t]));
    });
  }

  TEST_CASE("a policy that needs no logits routes a compact visit") {
    const std::vector<ExpertId> ids{ExpertId{9}, ExpertId{2}, ExpertId{5}, ExpertId{14}};
    const std::vector<float> weights{0.5F, 0.25F, 0.15F, 0.1F};
    for_every_policy(11, [&](const RoutingCase& it) {
      const auto policy = it.policy();
      if (policy->needs_logits()) return;
      Gate gate = it.gate();
      gate.set_recorded(ids, weights);
      const Selection chosen = route(*policy, gate, it.visits.front().states);
      REQUIRE(!chosen.ids.empty());
      for (const ExpertId id : chosen.ids) {
        REQUIRE(std::find(ids.begin(), ids.end(), id) != ids.end());
      }
    });
  }

  TEST_CASE("top_k serves a compact trace without weights") {
    const std::vector<ExpertId> ids{ExpertId{9}, ExpertId{2}, ExpertId{5}, ExpertId{14}};
    const RoutingContext context = routing_context(gate_of('A'), kExperts, 3);
    Gate gate(context.gate, kExperts, 3);
    gate.set_recorded(ids, {});
    const auto policy = routing_policy({{"policy", "top_k"}}, context);
    CHECK(!policy->needs_logits());
    CHECK(ids_of(route(*policy, gate, states_of(kExperts, {}))) ==
          std::vector<std::size_t>{9, 2, 5});
  }

  TEST_CASE("experts of excluded groups never run in a cache-aware policy") {
    GateSpec spec = gate_of('D');
    spec.n_group = 4;
    spec.topk_group = 2;
    const RoutingContext context = routing_context(spec, kExperts, kNative);
    const std::vector<RandomVisit> visits = random_visits(14);
    for (const Json& config : {Json{{"policy", "max_rank"}, {"M", kExperts}, {"keep_top", 0}},
                               Json{{"policy", "cumulative_threshold"}, {"p_thr", 1}},
                               Json{{"policy", "cache_prior"}, {"lambda", 1}}}) {
      CAPTURE(config.dump());
      const std::vector<Selection> routed = route_all(config, context, visits);
      Gate gate(spec, kExperts, kNative);
      for (std::size_t t = 0; t < visits.size(); ++t) {
        gate.set_logits(visits[t].logits, {});
        for (const ExpertId id : routed[t].ids) {
          REQUIRE(std::isfinite(gate.ranking()[index(id)]));
        }
      }
    }
  }

  TEST_CASE("cache_prior is the top k of a stable sort of the biased scores") {
    const std::vector<RandomVisit> visits = random_visits(15);
    for (const GateSpec& spec : gates_of_four()) {
      const RoutingContext context = routing_context(spec, kExperts, kNative);
      for (const std::size_t keep_top : {0U, 1U, 2U}) {
        const double lambda = 0.25;
        const std::vector<Selection> routed =
            route_all({{"policy", "cache_prior"}, {"lambda", lambda}, {"keep_top", keep_top}},
                      context, visits);
        Gate gate(spec, kExperts, kNative);
        double ranges = 0;
        for (std::size_t t = 0; t < visits.size(); ++t) {
          gate.set_logits(visits[t].logits, {});
          ranges += gate.ranking_range();
          const double bias = lambda * (ranges / static_cast<double>(t + 1));
          const auto original = gate.ranking();
          std::vector<double> biased(original.begin(), original.end());
          const std::vector<std::size_t> order = ranked(original);
          std::set<std::size_t> favoured(order.begin(), order.begin() + std::ptrdiff_t(keep_top));
          for (std::size_t e = 0; e < kExperts; ++e) {
            if (visits[t].states[e] == Residency::kResident) favoured.insert(e);
          }
          for (const std::size_t e : favoured) biased[e] += bias;
          std::vector<std::size_t> expected = ranked(biased);
          expected.resize(kNative);
          REQUIRE(ids_of(routed[t]) == expected);
        }
      }
    }
  }

  TEST_CASE("the windowed policies are a stable sort that puts residents first") {
    const std::vector<RandomVisit> visits = random_visits(16);
    for (const GateSpec& spec : gates_of_four()) {
      const RoutingContext context = routing_context(spec, kExperts, kNative);
      const std::size_t keep_top = 1;
      const std::vector<Selection> by_rank =
          route_all({{"policy", "max_rank"}, {"M", 7}, {"keep_top", keep_top}}, context, visits);
      const std::vector<Selection> by_mass =
          route_all({{"policy", "cumulative_threshold"}, {"p_thr", 0.8}, {"keep_top", keep_top}},
                    context, visits);
      Gate gate(spec, kExperts, kNative);
      for (std::size_t t = 0; t < visits.size(); ++t) {
        gate.set_logits(visits[t].logits, {});
        const std::vector<std::size_t> order = ranked(gate.ranking());
        const auto expected = [&](std::size_t window) {
          std::vector<std::size_t> result = order;
          while (std::isinf(gate.ranking()[result[window - 1]])) --window;
          std::stable_partition(
              result.begin() + std::ptrdiff_t(keep_top), result.begin() + std::ptrdiff_t(window),
              [&](std::size_t e) { return visits[t].states[e] == Residency::kResident; });
          result.resize(kNative);
          return result;
        };
        REQUIRE(ids_of(by_rank[t]) == expected(7));
        std::size_t window = 0;
        for (double mass = 0; mass < 0.8 && window < kExperts; ++window) {
          mass += gate.probabilities()[order[window]];
        }
        // A window below k changes nothing, and the order of equals is then the native one.
        const std::vector<std::size_t> wide = expected(std::max(window, kNative));
        if (window > kNative) {
          REQUIRE(ids_of(by_mass[t]) == wide);
        } else {
          REQUIRE(sorted(ids_of(by_mass[t])) == sorted(wide));
        }
      }
    }
  }
}

}  // namespace moesim::test
