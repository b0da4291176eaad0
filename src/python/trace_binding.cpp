// moesim._moesim.HeldTrace: traces as NumPy arrays, and from them.
#include "python/trace_binding.h"

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <map>
#include <ostream>
#include <tuple>
#include <utility>
#include <vector>

#include "core/errors.h"
#include "core/files.h"
#include "python/bindings.h"
#include "python/views.h"
#include "trace/safetensors_file.h"
#include "trace/safetensors_writer.h"

namespace moesim::python {
namespace {

namespace py = pybind11;

// What NumPy calls an element. It has no BF16 and no 8-bit floats: their bits.
const char* numpy_type(DType dtype) {
  switch (dtype) {
    case DType::kBool:
      return "?";
    case DType::kU8:
    case DType::kF8E4M3:
    case DType::kF8E5M2:
      return "u1";
    case DType::kI8:
      return "i1";
    case DType::kU16:
    case DType::kBF16:
      return "<u2";
    case DType::kI16:
      return "<i2";
    case DType::kF16:
      return "<f2";
    case DType::kU32:
      return "<u4";
    case DType::kI32:
      return "<i4";
    case DType::kF32:
      return "<f4";
    case DType::kU64:
      return "<u8";
    case DType::kI64:
      return "<i8";
    case DType::kF64:
      return "<f8";
  }
  throw InvariantError("unknown type of a tensor");
}

DType dtype_named(const std::string& name) {
  for (const DType dtype : {DType::kU8, DType::kU16, DType::kI32, DType::kI64, DType::kF16,
                            DType::kBF16, DType::kF32}) {
    if (to_string(dtype) == name) return dtype;
  }
  throw InvariantError("a trace has no tensors of type " + name);
}

const SafetensorsTensor& find_tensor(const HeldTrace& held, const std::string& name) {
  const SafetensorsTensor* const tensor = held.trace().file().find(name);
  if (tensor == nullptr) throw py::key_error(name);
  return *tensor;
}

// A read-only array over the tensor where it lies; it keeps the trace.
py::object tensor_view(const py::object& self, const std::string& name) {
  const SafetensorsTensor& tensor = find_tensor(self.cast<const HeldTrace&>(), name);
  const auto* const bytes = reinterpret_cast<const std::uint8_t*>(tensor.bytes.data());
  // As bytes first: NumPy then finds out itself whether the elements are aligned.
  const py::array flat = view_of(bytes, {static_cast<py::ssize_t>(tensor.bytes.size())}, self);
  return flat.attr("view")(numpy_type(tensor.dtype)).attr("reshape")(py::cast(tensor.shape));
}

std::vector<std::byte> image_of(const Trace& trace) {
  std::vector<TensorToWrite> tensors;
  tensors.reserve(trace.file().tensors().size());
  for (const auto& [name, tensor] : trace.file().tensors()) {
    tensors.push_back({name, tensor.dtype, tensor.shape, bytes_of(tensor.bytes)});
  }
  return safetensors_image(std::move(tensors), trace.metadata());
}

void save(const HeldTrace& held, const std::string& path) {
  const py::gil_scoped_release others_may_run;
  const std::vector<std::byte> image = image_of(held.trace());
  write_file_atomically(path, [&image](std::ostream& out) {
    out.write(reinterpret_cast<const char*>(image.data()),
              static_cast<std::streamsize>(image.size()));
  });
}

// Name, type in the file, contiguous array of such elements.
using GivenTensor = std::tuple<std::string, std::string, py::array>;

std::unique_ptr<HeldTrace> from_tensors(const std::vector<GivenTensor>& given,
                                        const std::map<std::string, std::string>& metadata,
                                        const std::string& shown) {
  std::map<std::string, TensorToWrite> by_name;  // the order in which image_of() has them
  for (const auto& [name, type, array] : given) {
    const auto* const data = static_cast<const std::byte*>(array.data());
    TensorToWrite tensor{name, dtype_named(type), {}, {}};
    tensor.shape.assign(array.shape(), array.shape() + array.ndim());
    tensor.bytes.assign(data, data + array.nbytes());
    by_name.insert_or_assign(name, std::move(tensor));
  }
  const py::gil_scoped_release others_may_run;
  std::vector<TensorToWrite> tensors;
  tensors.reserve(by_name.size());
  for (auto& [name, tensor] : by_name) tensors.push_back(std::move(tensor));
  std::vector<std::byte> image = safetensors_image(std::move(tensors), metadata);
  std::string sha256 = sha256_of_text({reinterpret_cast<const char*>(image.data()), image.size()});
  return std::make_unique<HeldTrace>(Trace::from_bytes(std::move(image), shown), "",
                                     std::move(sha256));
}

std::unique_ptr<HeldTrace> load(const std::string& path) {
  const py::gil_scoped_release others_may_run;
  return std::make_unique<HeldTrace>(Trace::open(path, path), path, "");
}

// (name, type in the file, shape) of each tensor, by name.
py::list tensor_list(const HeldTrace& held) {
  py::list result;
  for (const auto& [name, tensor] : held.trace().file().tensors()) {
    result.append(py::make_tuple(name, to_string(tensor.dtype), py::tuple(py::cast(tensor.shape))));
  }
  return result;
}

}  // namespace

HeldTrace::HeldTrace(Trace trace, std::string path, std::string sha256)
    : trace_(std::make_shared<const Trace>(std::move(trace))),
      path_(std::move(path)),
      sha256_(std::move(sha256)) {}

std::string HeldTrace::sha256() const {
  const std::scoped_lock one_computes(computing_);
  if (sha256_.empty()) sha256_ = sha256_of_file(path_);
  return sha256_;
}

void bind_traces(py::module_& module) {
  py::class_<HeldTrace>(module, "HeldTrace")
      .def_static("load", &load)
      .def_static("from_tensors", &from_tensors)
      .def("save", &save)
      .def("tensor",
           [](const py::object& self, const std::string& name) { return tensor_view(self, name); })
      .def("tensor_list", &tensor_list)
      .def("metadata", [](const HeldTrace& held) { return held.trace().metadata(); })
      .def("shape",
           [](const HeldTrace& held) {
             const RoutingShape& shape = held.trace().shape();
             return py::make_tuple(shape.tokens, shape.layers, shape.experts);
           })
      .def("gate", [](const HeldTrace& held) { return held.trace().gate(); })
      .def("top_k", [](const HeldTrace& held) { return held.trace().top_k(); })
      .def("ranked", [](const HeldTrace& held) { return held.trace().ranked(); })
      .def("path", &HeldTrace::path)
      .def("shown", [](const HeldTrace& held) { return held.trace().shown(); })
      .def("sha256", &HeldTrace::sha256, py::call_guard<py::gil_scoped_release>());
}

}  // namespace moesim::python
