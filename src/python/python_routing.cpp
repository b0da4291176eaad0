#include "python/python_routing.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "core/errors.h"

namespace moesim::python {

// What a policy returned for one visit: ids, or (ids, weights).
class PythonRouting::Answer {
 public:
  Answer(const std::string& policy, const RouterVisit& visit) : policy_(policy), visit_(visit) {}

  // Appends the selection; true where the policy gave weights of its own.
  bool read(const py::object& answer, std::size_t max_experts, Selection& chosen) const {
    py::object ids = answer;
    py::object weights = py::none();
    if (is_pair(answer)) {
      ids = py::reinterpret_borrow<py::tuple>(answer)[0];
      weights = py::reinterpret_borrow<py::tuple>(answer)[1];
    }
    read_ids(ids, max_experts, chosen);
    if (weights.is_none()) {
      weigh(chosen);
      return false;
    }
    read_weights(weights, chosen);
    return true;
  }

 private:
  [[nodiscard]] UserError error(const std::string& message) const {
    return user_error(
        fmt::format("routing {}: token {}, layer {}", policy_, visit_.token, index(visit_.layer)),
        message);
  }

  // (ids, weights), and not a pair of ids.
  static bool is_pair(const py::object& answer) {
    if (!py::isinstance<py::tuple>(answer) || py::len(answer) != 2) return false;
    const py::object first = py::reinterpret_borrow<py::tuple>(answer)[0];
    return PySequence_Check(first.ptr()) != 0;
  }

  // A row of numbers of one of the NumPy kinds in `kinds`.
  [[nodiscard]] py::array row(const py::object& values, const char* kinds,
                              const char* expected) const {
    py::array array = py::array::ensure(values);
    if (!array) PyErr_Clear();
    const bool is_row = array && array.ndim() == 1;
    const bool is_kind =
        is_row &&
        (array.size() == 0 || std::string(kinds).find(array.dtype().kind()) != std::string::npos);
    if (!is_kind) {
      throw error(fmt::format("expected {}, got {}", expected, std::string(py::repr(values))));
    }
    return array;
  }

  void read_ids(const py::object& ids, std::size_t max_experts, Selection& chosen) const {
    const py::array array = row(ids, "iu", "a row of expert ids, or (ids, weights)");
    const auto count = static_cast<std::size_t>(array.size());
    if (count == 0 || count > max_experts) {
      throw error(
          fmt::format("expected 1 to {} experts (max_experts), got {}", max_experts, count));
    }
    const py::array_t<std::int64_t, py::array::c_style | py::array::forcecast> numbers(array);
    const auto experts = static_cast<std::int64_t>(visit_.gate.experts());
    for (const std::int64_t id : std::span(numbers.data(), count)) {
      if (id < 0 || id >= experts) {
        throw error(fmt::format("expected expert ids in [0, {}], got {}", experts - 1, id));
      }
      const auto expert = static_cast<ExpertId>(id);
      if (std::find(chosen.ids.begin(), chosen.ids.end(), expert) != chosen.ids.end()) {
        throw error(fmt::format("expected distinct expert ids, got {} twice", id));
      }
      if (!visit_.gate.has_logits() && native_rank(expert) == visit_.gate.native().ids.size()) {
        throw error(
            fmt::format("expected experts that the trace recorded here, because it has no "
                        "router_logits, got {}",
                        id));
      }
      chosen.ids.push_back(expert);
    }
  }

  void read_weights(const py::object& weights, Selection& chosen) const {
    const py::array array = row(weights, "fiu", "a row of weights");
    if (static_cast<std::size_t>(array.size()) != chosen.ids.size()) {
      throw error(fmt::format("expected {} weights, one for each expert, got {}", chosen.ids.size(),
                              array.size()));
    }
    const py::array_t<double, py::array::c_style | py::array::forcecast> numbers(array);
    for (const double weight : std::span(numbers.data(), chosen.ids.size())) {
      if (!std::isfinite(weight) || weight < 0) {
        throw error(fmt::format("expected finite weights >= 0, got {}", weight));
      }
      chosen.weights.push_back(weight);
    }
  }

  [[nodiscard]] std::size_t native_rank(ExpertId expert) const {
    const std::vector<ExpertId>& native = visit_.gate.native().ids;
    return static_cast<std::size_t>(std::find(native.begin(), native.end(), expert) -
                                    native.begin());
  }

  // The model's own rule. The whole native selection has the native weights, bit for bit.
  void weigh(Selection& chosen) const {
    const Selection& native = visit_.gate.native();
    if (!visit_.gate.has_logits() && native.weights.empty()) return;
    bool same_set = chosen.ids.size() == native.ids.size();
    for (const ExpertId id : chosen.ids) {
      const std::size_t rank = native_rank(id);
      same_set = same_set && rank < native.ids.size();
      chosen.weights.push_back(rank < native.weights.size() ? native.weights[rank] : 0.0);
    }
    if (!same_set) visit_.gate.weights(chosen.ids, chosen.weights);
  }

  const std::string& policy_;
  const RouterVisit& visit_;
};

void PythonRouting::HeldDeleter::operator()(Held* held) const {
  const py::gil_scoped_acquire gil;
  delete held;
}

PythonRouting::PythonRouting(const RoutingDeclaration& declaration, const py::dict& parameters,
                             const RoutingContext& context)
    : name_(declaration.name), max_experts_(context.k), held_(new Held) {
  const py::object facts = py::module_::import("types").attr("SimpleNamespace")(
      py::arg("tokens") = context.shape.tokens, py::arg("layers") = context.shape.layers,
      py::arg("experts") = context.shape.experts, py::arg("k") = context.k,
      py::arg("gate") = to_string(context.gate.code), py::arg("seed") = context.seed);
  const py::object policy = declaration.make(facts, parameters);
  set_maximum(policy.attr("max_experts"), context.shape.experts);
  looks_at_residency_ = policy.attr("looks_at_residency").cast<bool>();
  needs_logits_ = policy.attr("needs_logits").cast<bool>();
  held_->route = policy.attr("route");
  held_->begin_sequence = policy.attr("begin_sequence");
  auto visit = std::make_unique<RoutingVisit>(name_, context.shape.experts, looks_at_residency_);
  held_->visit = visit.get();
  held_->visit_object = py::cast(std::move(visit));
}

void PythonRouting::set_maximum(const py::object& declared, std::size_t experts) {
  if (declared.is_none()) return;
  const bool is_integer =
      PyIndex_Check(declared.ptr()) != 0 && !py::isinstance<py::bool_>(declared);
  int overflow = 0;  // then the value is -1
  const auto most =
      is_integer ? PyLong_AsLongLongAndOverflow(py::int_(declared).ptr(), &overflow) : 0;
  if (most < 1 || static_cast<std::size_t>(most) > experts) {
    throw user_error("routing " + name_, fmt::format("expected max_experts in [1, {}], got {}",
                                                     experts, std::string(py::repr(declared))));
  }
  max_experts_ = static_cast<std::size_t>(most);
}

void PythonRouting::route(const RouterVisit& visit, const ResidencyView& residency,
                          Selection& chosen) {
  const py::gil_scoped_acquire gil;
  held_->visit->begin(visit, residency);
  py::object answer;
  try {
    answer = held_->route(held_->visit_object);
  } catch (...) {
    held_->visit->end();
    throw;
  }
  held_->visit->end();
  if (Answer(name_, visit).read(answer, max_experts_, chosen)) weighs_ = true;
}

void PythonRouting::begin_sequence(std::int32_t sequence) {
  const py::gil_scoped_acquire gil;
  if (!held_->begin_sequence.is_none()) held_->begin_sequence(sequence);
}

}  // namespace moesim::python
