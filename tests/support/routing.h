// Driving a routing policy without a cache or an engine: one visit at a time, residency given.
#pragma once

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "cache/eviction/eviction_policy.h"
#include "cache/residency_view.h"
#include "config/registry.h"
#include "core/rng.h"
#include "routing/gate.h"
#include "routing/routing_policy.h"
#include "trace/trace.h"
#include "trace/trace_writer.h"

namespace moesim::test {

inline GateSpec gate_of(char code) {
  GateSpec spec;
  spec.code = static_cast<GateCode>(code);
  return spec;
}

inline RoutingContext routing_context(const GateSpec& gate, std::size_t experts, std::size_t k,
                                      std::size_t layers = 1) {
  RoutingContext context;
  context.shape = {0, layers, experts};
  context.gate = gate;
  context.k = k;
  return context;
}

// `config` stands at /routing of a file run.json.
inline std::unique_ptr<RoutingPolicy> routing_policy(const Json& config,
                                                     const RoutingContext& context) {
  return Registry<RoutingPolicy>::instance().make(Section(config, "run.json", "/routing"), context);
}

inline std::vector<Residency> states_of(std::size_t experts,
                                        const std::vector<std::size_t>& residents) {
  std::vector<Residency> states(experts, Residency::kAbsent);
  for (const std::size_t expert : residents) states[expert] = Residency::kResident;
  return states;
}

// Scores residents by their id and evicts nothing: enough for policies that ask who would leave.
class ScoresOnly final : public EvictionPolicy {
 public:
  void on_hit(ExpertKey, const CacheEvent&) override {}
  void on_insert(ExpertKey, const CacheEvent&) override {}
  void on_evict(ExpertKey) override {}
  std::optional<ExpertKey> victim(const CacheEvent&, bool) override { return std::nullopt; }
  [[nodiscard]] double score(ExpertKey key) const override {
    return static_cast<double>(1 + index(key) * 7 % 5);
  }
};

// Routes one visit into `chosen`, which keeps its memory.
inline void route_into(RoutingPolicy& policy, Gate& gate, std::span<const Residency> states,
                       LayerId layer, std::uint32_t token, Selection& chosen) {
  static const ScoresOnly scores;
  chosen.clear();
  policy.route({token, 0, layer, gate}, ResidencyView(layer, states, &scores), chosen);
}

inline Selection route(RoutingPolicy& policy, Gate& gate, std::span<const Residency> states,
                       LayerId layer = LayerId{0}, std::uint32_t token = 0) {
  Selection chosen;
  chosen.reserve(policy.max_experts());
  route_into(policy, gate, states, layer, token, chosen);
  return chosen;
}

// The same for a fresh gate that is set to `logits`.
inline Selection route(RoutingPolicy& policy, const RoutingContext& context,
                       const std::vector<float>& logits,
                       const std::vector<std::size_t>& residents) {
  Gate gate(context.gate, logits.size(), context.k);
  gate.set_logits(logits, {});
  return route(policy, gate, states_of(logits.size(), residents));
}

inline std::vector<std::size_t> ids_of(const Selection& selection) {
  std::vector<std::size_t> ids;
  for (const ExpertId id : selection.ids) ids.push_back(index(id));
  return ids;
}

inline std::vector<std::size_t> sorted(std::vector<std::size_t> ids) {
  std::sort(ids.begin(), ids.end());
  return ids;
}

// All experts, largest score first, equal scores by lower id.
inline std::vector<std::size_t> ranked(std::span<const double> scores) {
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  return order;
}

// Multiples of 1/8 now and then, so that equal logits occur.
inline std::vector<float> random_logits(Rng& rng, std::size_t experts) {
  const bool coarse = rng.below(4) == 0;
  std::vector<float> logits(experts);
  for (float& logit : logits) {
    const double value = 2 * rng.normal();
    logit = static_cast<float>(coarse ? std::round(value * 8) / 8 : value);
  }
  return logits;
}

inline std::vector<Residency> random_states(Rng& rng, std::size_t experts) {
  std::vector<Residency> states(experts);
  for (Residency& state : states) state = static_cast<Residency>(rng.below(3));
  return states;
}

// The layer of the fixtures synthetic_seed1.json and dynamic_seed1.json, as their `generator` says:
// [tokens, experts].
inline std::vector<float> synthetic_logits(const Json& generator) {
  const auto experts = generator.at("experts").get<std::size_t>();
  const auto tokens = generator.at("tokens").get<std::size_t>();
  const auto segment = generator.at("segment_tokens").get<std::size_t>();
  Rng rng(generator.at("seed").get<std::uint64_t>());
  const auto uniform = [&] {
    return static_cast<float>(static_cast<double>(rng.next() >> 40) * 0x1.0p-22 - 2.0);
  };
  std::vector<float> offsets(tokens / segment * experts);
  for (float& offset : offsets) offset = uniform();
  std::vector<float> logits(tokens * experts);
  for (std::size_t i = 0; i < logits.size(); ++i) {
    logits[i] = offsets[i / experts / segment * experts + i % experts] + uniform();
  }
  return logits;
}

inline Trace trace_of(const TraceData& data) { return Trace::from_bytes(trace_image(data), "t"); }

// A full trace of one layer, exact in F32.
inline Trace logits_trace(const std::vector<float>& logits, std::size_t experts, std::size_t k,
                          char gate) {
  TraceData data;
  data.shape = {logits.size() / experts, 1, experts};
  data.logits = logits;
  data.logits_dtype = "F32";
  data.metadata = {{"top_k", std::to_string(k)}, {"gate", std::string(1, gate)}};
  return trace_of(data);
}

inline bool near(double a, double b, double tolerance = 1e-9) {
  return std::abs(a - b) <= tolerance;
}

}  // namespace moesim::test
