// Random visits of one layer, and every registered routing policy at every gate that it accepts.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "support/routing.h"
#include "support/routing_settings.h"
#include "support/testing.h"

namespace moesim::test {

struct RandomVisit {
  std::vector<float> logits;
  std::vector<Residency> states;
};

inline constexpr std::size_t kLayerExperts = 16;

inline std::vector<RandomVisit> random_visits(std::uint64_t seed, std::size_t visits = 300) {
  Rng rng(seed);
  std::vector<RandomVisit> result(visits);
  for (RandomVisit& visit : result) {
    visit = {random_logits(rng, kLayerExperts), random_states(rng, kLayerExperts)};
  }
  return result;
}

// Every gate code, and D with groups.
inline std::vector<GateSpec> all_gates() {
  std::vector<GateSpec> specs;
  for (const char code : std::string("ABCDEFG")) specs.push_back(gate_of(code));
  GateSpec groups = gate_of('D');
  groups.n_group = 4;
  groups.topk_group = 2;
  specs.push_back(groups);
  return specs;
}

// F and G fix theirs.
inline std::size_t k_of(const GateSpec& gate) {
  if (gate.code == GateCode::kF) return 2;
  return gate.code == GateCode::kG ? 1 : 4;
}

// A full trace of the visits, one decode token each, with every optional tensor that routing may
// want.
inline Trace trace_of_visits(const std::vector<RandomVisit>& visits, const GateSpec& gate) {
  TraceData data;
  data.shape = {visits.size(), 1, kLayerExperts};
  data.logits_dtype = "F32";
  data.metadata = {{"top_k", std::to_string(k_of(gate))}, {"gate", to_string(gate.code)}};
  Rng rng(99);
  for (std::size_t t = 0; t < visits.size(); ++t) {
    data.logits.insert(data.logits.end(), visits[t].logits.begin(), visits[t].logits.end());
    data.token_ids.push_back(static_cast<std::int32_t>(rng.below(50)));
    data.sequence.push_back(static_cast<std::int32_t>(t / 100));
    data.router_input_l1.push_back(static_cast<float>(1 + rng.below(100)));
    data.attention_received.push_back(static_cast<float>(rng.below(100)) / 10.0F);
  }
  data.next_layer_logits = data.logits;
  return trace_of(data);
}

// A policy that can be made for the context, with its settings.
struct RoutingCase {
  Json config;
  const RoutingContext& context;
  const std::vector<RandomVisit>& visits;

  [[nodiscard]] std::unique_ptr<RoutingPolicy> policy() const {
    return routing_policy(config, context);
  }
  [[nodiscard]] Gate gate() const { return {context.gate, kLayerExperts, context.k}; }
};

// Whether the policy takes the gate. A refusal of any but F and G fails the test.
inline bool accepts(const Json& config, const RoutingContext& context) {
  try {
    routing_policy(config, context);
    return true;
  } catch (const UserError& error) {
    const GateCode code = context.gate.code;
    if (code != GateCode::kF && code != GateCode::kG) FAIL(error.what());
    return false;
  }
}

// Calls `check(RoutingCase)` for every policy and setting at every gate that takes it.
template <class Check>
void for_every_policy(std::uint64_t seed, Check&& check) {
  const TemporaryFolder folder;
  const std::vector<RandomVisit> visits = random_visits(seed);
  for (const GateSpec& gate : all_gates()) {
    const Trace trace = trace_of_visits(visits, gate);
    RoutingContext context = routing_context(gate, kLayerExperts, k_of(gate));
    context.shape.tokens = visits.size();
    context.trace = &trace;
    const SettingsFor at{folder.path(), context.shape, context.k};
    for (const std::string& name : Registry<RoutingPolicy>::instance().names()) {
      for (const Json& config : runnable_settings(name, at)) {
        const std::string shown = config.dump() + " gate " + to_string(gate.code);
        CAPTURE(shown);
        if (accepts(config, context)) check(RoutingCase{config, context, visits});
      }
    }
  }
}

// Every visit of the case through a fresh policy.
inline std::vector<Selection> route_all(const Json& config, const RoutingContext& context,
                                        const std::vector<RandomVisit>& visits) {
  const auto policy = routing_policy(config, context);
  Gate gate(context.gate, kLayerExperts, context.k);
  policy->begin_sequence(0);
  std::vector<Selection> routed;
  routed.reserve(visits.size());
  for (std::size_t t = 0; t < visits.size(); ++t) {
    gate.set_logits(visits[t].logits, {});
    routed.push_back(
        route(*policy, gate, visits[t].states, LayerId{0}, static_cast<std::uint32_t>(t)));
  }
  return routed;
}
inline std::vector<Selection> route_all(const RoutingCase& of) {
  return route_all(of.config, of.context, of.visits);
}

}  // namespace moesim::test
