#include "python/routing_visit.h"

#include <algorithm>
#include <span>
#include <stdexcept>
#include <utility>

#include "core/errors.h"
#include "python/views.h"

namespace moesim::python {
namespace {

template <class T>
py::object copy_of(std::span<const T> values) {
  return py::array_t<T>(static_cast<py::ssize_t>(values.size()), values.data());
}

}  // namespace

RoutingVisit::RoutingVisit(std::string policy, std::size_t experts, bool sees_residency)
    : policy_(std::move(policy)),
      sees_residency_(sees_residency),
      logits_(static_cast<py::ssize_t>(experts)),
      resident_(static_cast<py::ssize_t>(experts)),
      in_flight_(static_cast<py::ssize_t>(experts)),
      logits_at_(logits_.mutable_data()),
      resident_at_(resident_.mutable_data()),
      in_flight_at_(in_flight_.mutable_data()) {
  freeze(logits_);
  freeze(resident_);
  freeze(in_flight_);
}

void RoutingVisit::begin(const RouterVisit& visit, const ResidencyView& residency) {
  visit_ = &visit;
  residency_ = &residency;
}

const RouterVisit& RoutingVisit::visit() const {
  if (visit_ == nullptr) throw std::runtime_error("a visit is over when the policy has returned");
  return *visit_;
}

const ResidencyView& RoutingVisit::residency() const {
  static_cast<void>(visit());
  if (!sees_residency_) {
    throw user_error("routing " + policy_,
                     "expected looks_at_residency = True, got False: it looks at the cache");
  }
  return *residency_;
}

py::object RoutingVisit::logits() {
  const std::span<const float> logits = visit().gate.logits();
  if (logits.empty()) return py::none();
  std::copy(logits.begin(), logits.end(), logits_at_);
  return logits_;
}

py::object RoutingVisit::native_ids() const {
  const std::vector<ExpertId>& ids = visit().gate.native().ids;
  return copy_of(std::span(reinterpret_cast<const std::uint16_t*>(ids.data()), ids.size()));
}

py::object RoutingVisit::native_weights() const {
  return copy_of(std::span<const double>(visit().gate.native().weights));
}

py::object RoutingVisit::probabilities() const {
  if (!visit().gate.has_logits()) return py::none();
  return copy_of(visit().gate.probabilities());
}

py::object RoutingVisit::ranking() const {
  if (!visit().gate.has_logits()) return py::none();
  return copy_of(visit().gate.ranking());
}

py::array RoutingVisit::resident() {
  const std::span<const Residency> states = residency().states();
  std::transform(states.begin(), states.end(), resident_at_,
                 [](Residency state) { return state == Residency::kResident; });
  return resident_;
}

py::array RoutingVisit::in_flight() {
  const std::span<const Residency> states = residency().states();
  std::transform(states.begin(), states.end(), in_flight_at_,
                 [](Residency state) { return state == Residency::kInFlight; });
  return in_flight_;
}

double RoutingVisit::eviction_score(std::int64_t expert) const {
  const ResidencyView& view = residency();
  const bool exists = expert >= 0 && static_cast<std::size_t>(expert) < view.states().size();
  if (!exists || !view.resident(static_cast<ExpertId>(expert))) {
    throw py::value_error("expert " + std::to_string(expert) + " is not resident");
  }
  return view.eviction_score(static_cast<ExpertId>(expert));
}

}  // namespace moesim::python
