// NumPy arrays over memory that something else owns.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <utility>
#include <vector>

namespace moesim::python {

namespace py = pybind11;

// From here on Python cannot write to it.
inline void freeze(py::array& array) {
  py::detail::array_proxy(array.ptr())->flags &= ~py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
}

// A read-only array over `data`, row-major, which keeps `owner` alive; nothing is copied.
template <class T>
py::array view_of(const T* data, std::vector<py::ssize_t> shape, py::handle owner) {
  py::array_t<T> array(std::move(shape), data, owner);
  freeze(array);
  return array;
}

}  // namespace moesim::python
