// One layer visit as a routing policy in Python sees it.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "cache/residency_view.h"
#include "routing/routing_policy.h"

namespace moesim::python {

namespace py = pybind11;

// One object per policy, set to one visit after the other. Arrays are NumPy's own memory, so what
// Python keeps stays valid; logits and masks are rewritten by the next visit. Outside a visit
// every property throws std::runtime_error. The GIL must be held.
class RoutingVisit {
 public:
  // `policy`: how messages call it. `sees_residency`: false where the policy declared not to look.
  RoutingVisit(std::string policy, std::size_t experts, bool sees_residency);

  void begin(const RouterVisit& visit, const ResidencyView& residency);
  void end() { visit_ = nullptr; }

  [[nodiscard]] std::uint32_t token() const { return visit().token; }
  [[nodiscard]] std::int32_t sequence() const { return visit().sequence; }
  [[nodiscard]] std::size_t layer() const { return index(visit().layer); }
  [[nodiscard]] std::size_t k() const { return visit().gate.k(); }
  [[nodiscard]] std::size_t experts() const { return visit().gate.experts(); }
  [[nodiscard]] std::string gate() const { return to_string(visit().gate.spec().code); }
  // float32 [experts]; None on a compact visit.
  py::object logits();
  // uint16 and float64 [k]: the model's own selection, best first.
  [[nodiscard]] py::object native_ids() const;
  [[nodiscard]] py::object native_weights() const;
  // float64 [experts]; None on a compact visit.
  [[nodiscard]] py::object probabilities() const;
  [[nodiscard]] py::object ranking() const;
  // bool [experts]. Throw UserError where the policy declared not to look.
  py::array resident();
  py::array in_flight();
  // Throws ValueError for an expert that is not resident.
  [[nodiscard]] double eviction_score(std::int64_t expert) const;

 private:
  [[nodiscard]] const RouterVisit& visit() const;
  [[nodiscard]] const ResidencyView& residency() const;

  std::string policy_;
  bool sees_residency_;
  const RouterVisit* visit_ = nullptr;
  const ResidencyView* residency_ = nullptr;
  py::array_t<float> logits_;
  py::array_t<bool> resident_;
  py::array_t<bool> in_flight_;
  // Where the arrays lie, which are read-only for everybody else.
  float* logits_at_;
  bool* resident_at_;
  bool* in_flight_at_;
};

}  // namespace moesim::python
