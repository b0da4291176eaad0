// What holds for every routing policy, those not yet written included.
#include "support/routing.h"

#include <set>

#include "support/testing.h"

namespace moesim::test {
namespace {

constexpr std::size_t kExperts = 16;
constexpr std::size_t kNative = 4;
constexpr std::size_t kVisits = 300;

struct Visit {
  std::vector<float> logits;
  std::vector<Residency> states;
};

std::vector<Visit> random_visits(std::uint64_t seed) {
  Rng rng(seed);
  std::vector<Visit> visits(kVisits);
  for (Visit& visit : visits) {
    visit = {random_logits(rng, kExperts), random_states(rng, kExperts)};
  }
  return visits;
}

Trace trace_of_visits(const std::vector<Visit>& visits, char gate) {
  std::vector<float> logits;
  for (const Visit& visit : visits) {
    logits.insert(logits.end(), visit.logits.begin(), visit.logits.end());
  }
  return logits_trace(logits, kExperts, kNative, gate);
}

std::vector<GateSpec> gates() {
  std::vector<GateSpec> specs;
  for (const char code : std::string("ABCDE")) specs.push_back(gate_of(code));
  GateSpec groups = gate_of('D');
  groups.n_group = 4;
  groups.topk_group = 2;
  specs.push_back(groups);
  return specs;
}

std::vector<Selection> route_all(const Json& config, const RoutingContext& context,
                                 const std::vector<Visit>& visits) {
  const auto policy = routing_policy(config, context);
  Gate gate(context.gate, kExperts, kNative);
  policy->begin_sequence(0);
  std::vector<Selection> routed;
  for (std::size_t t = 0; t < visits.size(); ++t) {
    gate.set_logits(visits[t].logits, {});
    routed.push_back(
        route(*policy, gate, visits[t].states, LayerId{0}, static_cast<std::uint32_t>(t)));
  }
  return routed;
}

// Calls `check(name, context, visits)` for every policy with its defaults and every gate.
template <class Check>
void for_every_policy(Check&& check) {
  const std::vector<Visit> visits = random_visits(11);
  for (const GateSpec& gate : gates()) {
    const Trace trace = trace_of_visits(visits, to_string(gate.code).front());
    RoutingContext context = routing_context(gate, kExperts, kNative);
    context.shape.tokens = visits.size();
    context.trace = &trace;
    for (const std::string& name : Registry<RoutingPolicy>::instance().names()) {
      const std::string code = to_string(gate.code);
      CAPTURE(name);
      CAPTURE(code);
      check(name, context, visits);
    }
  }
}

bool same(const Selection& a, const Selection& b) {
  return a.ids == b.ids && a.weights == b.weights;
}

}  // namespace

TEST_SUITE("property/routing") {
  TEST_CASE("a policy returns distinct experts, one to its maximum, with finite weights") {
    for_every_policy([](const std::string& name, const RoutingContext& context,
                        const std::vector<Visit>& visits) {
      const std::size_t most = routing_policy({{"policy", name}}, context)->max_experts();
      for (const Selection& chosen : route_all({{"policy", name}}, context, visits)) {
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
    for_every_policy([](const std::string& name, const RoutingContext& context,
                        const std::vector<Visit>& visits) {
      std::size_t keep_top = 0;
      for (const Parameter& p : Registry<RoutingPolicy>::instance().all().at(name).parameters) {
        if (p.name == "keep_top") keep_top = std::min<std::size_t>(2, kNative - 1);  // its default
      }
      const std::vector<Selection> routed = route_all({{"policy", name}}, context, visits);
      Gate gate(context.gate, kExperts, kNative);
      for (std::size_t t = 0; t < visits.size(); ++t) {
        gate.set_logits(visits[t].logits, {});
        for (std::size_t rank = 0; rank < keep_top; ++rank) {
          REQUIRE(std::count(routed[t].ids.begin(), routed[t].ids.end(), gate.native().ids[rank]) ==
                  1);
        }
      }
    });
  }

  TEST_CASE("equal inputs give equal outputs") {
    for_every_policy([](const std::string& name, const RoutingContext& context,
                        const std::vector<Visit>& visits) {
      const std::vector<Selection> once = route_all({{"policy", name}}, context, visits);
      const std::vector<Selection> twice = route_all({{"policy", name}}, context, visits);
      for (std::size_t t = 0; t < visits.size(); ++t) REQUIRE(same(once[t], twice[t]));
    });
  }

  TEST_CASE("a policy that says it does not look at residency does not") {
    for_every_policy([](const std::string& name, const RoutingContext& context,
                        const std::vector<Visit>& visits) {
      if (routing_policy({{"policy", name}}, context)->looks_at_residency()) return;
      std::vector<Visit> other = visits;
      Rng rng(12);
      for (Visit& visit : other) visit.states = random_states(rng, kExperts);
      const std::vector<Selection> once = route_all({{"policy", name}}, context, visits);
      const std::vector<Selection> twice = route_all({{"policy", name}}, context, other);
      for (std::size_t t = 0; t < visits.size(); ++t) REQUIRE(same(once[t], twice[t]));
    });
  }

  TEST_CASE("a policy that needs no logits routes a compact visit") {
    const std::vector<ExpertId> ids{ExpertId{9}, ExpertId{2}, ExpertId{5}, ExpertId{14}};
    const std::vector<float> weights{0.5F, 0.25F, 0.15F, 0.1F};
    for_every_policy([&](const std::string& name, const RoutingContext& context,
                         const std::vector<Visit>& visits) {
      const auto policy = routing_policy({{"policy", name}}, context);
      if (policy->needs_logits()) return;
      Gate gate(context.gate, kExperts, kNative);
      gate.set_recorded(ids, weights);
      const Selection chosen = route(*policy, gate, visits.front().states);
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

  TEST_CASE("at its identity setting a policy gives the model's own selections") {
    const std::vector<Visit> visits = random_visits(13);
    const std::vector<Json> identities = {
        {{"policy", "cache_prior"}, {"lambda", 0}},
        {{"policy", "cache_prior"}, {"lambda", 1}, {"keep_top", kNative}},
        {{"policy", "max_rank"}, {"M", kNative}},
        {{"policy", "cumulative_threshold"}, {"p_thr", 0}},
        {{"policy", "odp"}, {"mu", 0}}};
    for (const GateSpec& gate : gates()) {
      const RoutingContext context = routing_context(gate, kExperts, kNative);
      const std::vector<Selection> native = route_all({{"policy", "top_k"}}, context, visits);
      for (const Json& config : identities) {
        CAPTURE(config.dump());
        CHECK(!routing_policy(config, context)->looks_at_residency());
        const std::vector<Selection> routed = route_all(config, context, visits);
        for (std::size_t t = 0; t < visits.size(); ++t) {
          REQUIRE(sorted(ids_of(routed[t])) == sorted(ids_of(native[t])));
        }
      }
    }
  }

  TEST_CASE("experts of excluded groups never run in a cache-aware policy") {
    GateSpec spec = gate_of('D');
    spec.n_group = 4;
    spec.topk_group = 2;
    const RoutingContext context = routing_context(spec, kExperts, kNative);
    const std::vector<Visit> visits = random_visits(14);
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
    const std::vector<Visit> visits = random_visits(15);
    for (const GateSpec& spec : gates()) {
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
    const std::vector<Visit> visits = random_visits(16);
    for (const GateSpec& spec : gates()) {
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
