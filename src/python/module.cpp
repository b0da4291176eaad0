// The extension module `moesim._moesim`: what the Python files of the package are made of. Errors
// of the library arrive as moesim.UserError, defects as RuntimeError.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "cache/eviction/eviction_policy.h"
#include "config/builtin.h"
#include "core/errors.h"
#include "core/version.h"
#include "prefetch/prefetcher.h"
#include "python/bindings.h"
#include "python/registry_use.h"
#include "routing/routing_policy.h"

namespace moesim::python {
namespace {

namespace py = pybind11;

// UserError in Python. Lives as long as the process: the interpreter is gone before static objects.
py::handle user_error_type;

// The text that the program prints after "sim: error: ".
std::string one_line(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20) c = ' ';
  }
  return text;
}

// By value, as pybind11 calls it. NOLINTNEXTLINE(performance-unnecessary-value-param)
void translate(std::exception_ptr pending) {
  if (!pending) return;
  try {
    std::rethrow_exception(pending);
  } catch (const UserError& error) {
    PyErr_SetString(user_error_type.ptr(), one_line(error.what()).c_str());
  } catch (const InvariantError& error) {
    PyErr_SetString(PyExc_RuntimeError,
                    one_line(std::string("defect of the program: ") + error.what()).c_str());
  }
}

void bind_errors(py::module_& module) {
  user_error_type = py::exception<UserError>(module, "UserError", PyExc_ValueError).release();
  user_error_type.attr("__module__") = "moesim";
  user_error_type.attr("__doc__") =
      "Anything that the user can mend: one line with file, place, expected, got.";
  py::register_exception_translator(&translate);
}

template <class Interface>
Json policies() {
  const RegistryUse in_use;
  Json result = Json::array();
  for (const auto& [name, entry] : Registry<Interface>::instance().all()) {
    Json policy = {{"name", name},
                   {"description", entry.about.description},
                   {"source", entry.about.source},
                   {"parameters", Json::array()}};
    for (const Parameter& parameter : entry.parameters) {
      policy["parameters"].push_back({{"name", parameter.name},
                                      {"description", parameter.text},
                                      {"type", parameter.type},
                                      {"default", parameter.default_value},
                                      {"range", parameter.range},
                                      {"source", parameter.source}});
    }
    result.push_back(std::move(policy));
  }
  return result;
}

// JSON of the policies of one kind, as `sim list KIND --json` has them.
std::string policies_json(const std::string& kind) {
  if (kind == "routing") return policies<RoutingPolicy>().dump();
  if (kind == "eviction") return policies<EvictionPolicy>().dump();
  if (kind == "prefetch") return policies<Prefetcher>().dump();
  throw user_error("policies", unknown_name_message(kind, {"eviction", "prefetch", "routing"}));
}

void bind_lists(py::module_& module) {
  module.def("builtin_names", &builtin_names);
  module.def("carry_builtin_folder",
             [](const std::string& folder) { carry_builtin_folder(folder); });
  module.def("policies_json", &policies_json);
  module.attr("version") = program_version();
  module.attr("commit") = program_commit();
}

}  // namespace
}  // namespace moesim::python

PYBIND11_MODULE(_moesim, module) {
  module.doc() = "The library of moesim; use the package moesim.";
  moesim::python::bind_errors(module);
  moesim::python::bind_traces(module);
  moesim::python::bind_routing(module);
  moesim::python::bind_results(module);
  moesim::python::bind_lists(module);
}
