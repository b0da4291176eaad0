// A routing policy that is written in Python: what was declared about it, and the object that the
// engine drives.
#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>
#include <memory>
#include <optional>
#include <string>

#include "python/routing_visit.h"
#include "routing/routing_policy.h"

namespace moesim::python {

// Copy and destroy with the GIL held.
struct RoutingDeclaration {
  std::string name;
  // Makes the policy of one pass over the trace: callable(context, parameters) -> an object with
  // `route(visit)`, `begin_sequence(sequence)` (or None), `max_experts` (or None),
  // `looks_at_residency` and `needs_logits`.
  py::object make;
};

class PythonRouting final : public RoutingPolicy {
 public:
  // REQUIRES: the GIL. Throws UserError for a declared maximum out of range; what Python throws
  // passes through.
  PythonRouting(const RoutingDeclaration& declaration, const py::dict& parameters,
                const RoutingContext& context);

  // Takes the GIL. Throws UserError that names policy, token and layer for an answer that is no
  // selection; what Python throws passes through.
  void route(const RouterVisit& visit, const ResidencyView& residency, Selection& chosen) override;
  void begin_sequence(std::int32_t sequence) override;
  [[nodiscard]] WeightRule weight_rule() const override {
    return weighs_ ? WeightRule::kOwn : WeightRule::kGate;
  }
  [[nodiscard]] std::size_t max_experts() const override { return max_experts_; }
  [[nodiscard]] bool looks_at_residency() const override { return looks_at_residency_; }
  [[nodiscard]] bool needs_logits() const override { return needs_logits_; }

 private:
  // What Python owns. Destroyed with the GIL held, whoever does it.
  struct Held {
    py::object route;
    py::object begin_sequence;
    py::object visit_object;
    RoutingVisit* visit = nullptr;  // inside visit_object
  };
  struct HeldDeleter {
    void operator()(Held* held) const;
  };
  class Answer;

  void set_maximum(const py::object& declared, std::size_t experts);

  std::string name_;
  std::size_t max_experts_;
  bool looks_at_residency_ = true;
  bool needs_logits_ = true;
  bool weighs_ = false;  // it has returned weights
  std::unique_ptr<Held, HeldDeleter> held_;
};

}  // namespace moesim::python
