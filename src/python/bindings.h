// The parts of the extension module, each of which adds itself.
#pragma once

#include <pybind11/pybind11.h>

namespace moesim::python {

void bind_traces(pybind11::module_& module);
void bind_routing(pybind11::module_& module);
void bind_results(pybind11::module_& module);

}  // namespace moesim::python
