// moesim._moesim: routing policies in Python, registered by name or given to one run.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <map>
#include <mutex>
#include <set>
#include <stdexcept>
#include <utility>
#include <vector>

#include "core/errors.h"
#include "python/bindings.h"
#include "python/given_routing.h"
#include "python/python_routing.h"
#include "python/registry_use.h"

namespace moesim::python {
namespace {

// What `routing=` of a run is called in its configuration.
constexpr const char* kGivenName = "python";

// By name; looked at with the GIL held. Never destroyed: the interpreter is gone before static
// objects are.
std::map<std::string, RoutingDeclaration>& declarations() {
  static auto* const kAll = new std::map<std::string, RoutingDeclaration>;
  return *kAll;
}

const RoutingDeclaration*& given() {
  thread_local const RoutingDeclaration* of_this_thread = nullptr;
  return of_this_thread;
}

py::object from_json(const Json& value) {
  return py::module_::import("json").attr("loads")(value.dump());
}

Json to_json(const py::object& value) {
  return Json::parse(py::module_::import("json").attr("dumps")(value).cast<std::string>());
}

bool is_in_registry(const std::string& name) {
  const RegistryUse in_use;
  return Registry<RoutingPolicy>::instance().all().contains(name);
}

void refuse_inside_run() {
  if (RegistryUse::is_here()) {
    throw std::runtime_error("a policy cannot be registered inside a run; do it before");
  }
}

void replace(const std::string& name, Registry<RoutingPolicy>::Entry entry) {
  refuse_inside_run();
  const py::gil_scoped_release nobody_waits_for_us;
  const auto change = RegistryUse::change();
  Registry<RoutingPolicy>::instance().replace(name, std::move(entry));
}

std::unique_ptr<RoutingPolicy> make_registered(const std::string& name,
                                               const std::vector<Parameter>& parameters,
                                               Section& section, const RoutingContext& context) {
  const py::gil_scoped_acquire gil;
  py::dict values;
  for (const Parameter& parameter : parameters) {
    values[py::str(parameter.name)] = from_json(section.raw(parameter.name));
  }
  return std::make_unique<PythonRouting>(declarations().at(name), values, context);
}

std::unique_ptr<RoutingPolicy> make_given(Section& section, const RoutingContext& context) {
  section.accept("name");
  if (given() == nullptr) {
    throw section.error("policy",
                        "expected the name of a policy, got python, which stands for "
                        "moesim.run(..., routing=)");
  }
  const py::gil_scoped_acquire gil;
  return std::make_unique<PythonRouting>(*given(), py::dict(), context);
}

// `parameters`: name to default.
void register_routing(const std::string& name, const py::object& make,
                      const std::string& description, const py::dict& parameters) {
  refuse_inside_run();
  if (name.empty()) throw user_error("register_routing", "expected a name, got an empty one");
  const bool is_taken = !declarations().contains(name) && is_in_registry(name);
  if (is_taken || name == kGivenName) {
    throw user_error("register_routing", "expected a name of its own, got " + name +
                                             ", which is a policy of the program");
  }
  std::vector<Parameter> known;
  for (const auto& [key, value] : parameters) {
    known.push_back({key.cast<std::string>(), to_json(py::reinterpret_borrow<py::object>(value)),
                     "parameter of the Python policy", "any", "", "own"});
  }
  // First: a run of another thread may ask for it as soon as the registry has the name.
  declarations()[name] = {name, make};
  replace(name, {About(description, "Python"), known,
                 [name, known](Section& section, const RoutingContext& context) {
                   return make_registered(name, known, section, context);
                 }});
}

}  // namespace

GivenRouting::GivenRouting(const RoutingDeclaration& declaration)
    : declaration_(declaration), outer_(given()) {
  if (!is_in_registry(kGivenName)) {
    replace(kGivenName, {About("the policy given to moesim.run(..., routing=)", "Python"),
                         {{"name", nullptr, "what the policy is called", "string", "", "own"}},
                         &make_given});
  }
  given() = &declaration_;
}

GivenRouting::~GivenRouting() { given() = outer_; }

void GivenRouting::enter(Json& config) const {
  Json routing = {{"policy", kGivenName}, {"name", declaration_.name}};
  if (config.contains("routing") && config["routing"].is_object() &&
      config["routing"].contains("k")) {
    routing["k"] = config["routing"]["k"];
  }
  config["routing"] = std::move(routing);
}

void bind_routing(py::module_& module) {
  py::class_<RoutingDeclaration>(module, "RoutingDeclaration")
      .def(py::init<std::string, py::object>());
  module.def("register_routing", &register_routing);
  py::class_<RoutingVisit>(module, "Visit")
      .def_property_readonly("token", &RoutingVisit::token)
      .def_property_readonly("sequence", &RoutingVisit::sequence)
      .def_property_readonly("layer", &RoutingVisit::layer)
      .def_property_readonly("k", &RoutingVisit::k)
      .def_property_readonly("experts", &RoutingVisit::experts)
      .def_property_readonly("gate", &RoutingVisit::gate)
      .def_property_readonly("logits", &RoutingVisit::logits)
      .def_property_readonly("native_ids", &RoutingVisit::native_ids)
      .def_property_readonly("native_weights", &RoutingVisit::native_weights)
      .def_property_readonly("probabilities", &RoutingVisit::probabilities)
      .def_property_readonly("ranking", &RoutingVisit::ranking)
      .def_property_readonly("resident", &RoutingVisit::resident)
      .def_property_readonly("in_flight", &RoutingVisit::in_flight)
      .def("eviction_score", &RoutingVisit::eviction_score, py::arg("expert"));
}

}  // namespace moesim::python
