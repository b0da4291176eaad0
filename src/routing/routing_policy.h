// Chooses the experts that serve one decoded token at one layer. Prefill is always routed by plain
// top-k and never reaches a policy.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>

#include "cache/residency_view.h"
#include "config/registry.h"
#include "core/ids.h"
#include "routing/gate.h"
#include "routing/selection.h"

namespace moesim {

class Trace;

// What the factory of a policy receives beside its parameters.
struct RoutingContext {
  RoutingShape shape;
  GateSpec gate;
  std::size_t k = 0;             // experts that the router selects natively
  const Trace* trace = nullptr;  // for calibration (medians, counts) and for what the trace lacks
  std::uint64_t seed = 1;
  std::filesystem::path base_dir;  // what the paths of a policy's files are relative to
};

// One token at one layer.
struct RouterVisit {
  std::uint32_t token = 0;  // row of the trace
  std::int32_t sequence = 0;
  LayerId layer{};
  Gate& gate;  // set to this visit's logits or recorded ids
  Phase phase = Phase::kDecode;
};

// How the weights of a selection follow from the router's scores.
enum class WeightRule : std::uint8_t {
  kGate,               // the model's own rule, restricted to the selection: Gate::weights()
  kProbabilities,      // p_e of all experts, as it is: Gate::probabilities()
  kRenormalised,       // p_e divided by its sum over the selection
  kKeepsNativeSum,     // Gate::weights(), scaled to the sum of the native weights
  kShareOfCandidates,  // p_e divided by its sum over the k candidates, of which some do not run:
                       // their mass is lost
  kAlteredLogits,      // the model's own rule on altered_logits() instead of the logits
  kOwn,                // the policy's, which no rule describes
};

class RoutingPolicy {
 public:
  using Context = RoutingContext;
  virtual ~RoutingPolicy() = default;

  // Fills `chosen` with distinct experts and their weights, in the policy's own order; at least
  // one, at most max_experts(). Called once per decoded token and layer, layers in order; must not
  // allocate in steady state. `chosen` arrives empty, with room for max_experts().
  virtual void route(const RouterVisit& visit, const ResidencyView& residency,
                     Selection& chosen) = 0;

  // Which rule the weights follow; a property test holds it against them. kGate of a native
  // selection is the native weights.
  [[nodiscard]] virtual WeightRule weight_rule() const { return WeightRule::kGate; }
  // The most experts that route() ever returns.
  [[nodiscard]] virtual std::size_t max_experts() const = 0;
  // True when the choice depends on residency: then no future exists for offline policies.
  [[nodiscard]] virtual bool looks_at_residency() const { return false; }
  // False when route() works from the native selection alone, so that a compact trace serves.
  [[nodiscard]] virtual bool needs_logits() const { return true; }
  // False when route() needs no weights either.
  [[nodiscard]] virtual bool needs_weights() const { return false; }
  // KL(softmax z || softmax z') of the visit that was routed last, for policies that add a bias to
  // the logits z; nothing for others. `residency` as route() saw it.
  [[nodiscard]] virtual std::optional<double> bias_divergence(
      const RouterVisit& /*visit*/, const ResidencyView& /*residency*/) const {
    return std::nullopt;
  }
  // [experts]: the logits z' that drove selection and weights of the visit that was routed last,
  // where weight_rule() is kAlteredLogits; empty for others. Valid until the next visit.
  [[nodiscard]] virtual std::span<const float> altered_logits() const { return {}; }
  // How often the block of this layer (attention, router and experts) runs for a decoded token of
  // the sequence: 0 skips it, and route() is not called; 2 runs it twice, the second time with the
  // experts of the first. The same for all tokens of a sequence.
  [[nodiscard]] virtual std::uint32_t executions(std::int32_t /*sequence*/,
                                                 LayerId /*layer*/) const {
    return 1;
  }
  // The most that executions() ever returns, at least 1.
  [[nodiscard]] virtual std::uint32_t max_executions() const { return 1; }
  // Called before the first token of each sequence. Estimators persist; per-sequence state does
  // not.
  virtual void begin_sequence(std::int32_t /*sequence*/) {}
};

}  // namespace moesim
