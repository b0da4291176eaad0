// The tensors of a trace as one table: what the reader accepts, the writer writes and the inspector
// explains (docs/trace_format.md).
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "trace/safetensors_file.h"

namespace moesim {

// How long each axis of a trace is.
struct TraceAxes {
  std::size_t tokens = 0;
  std::size_t layers = 0;
  std::size_t experts = 0;
  std::size_t k = 0;  // ids per cell of the compact form
};

struct TensorRule {
  const char* name;
  std::vector<DType> dtypes;
  // One letter per axis: T token, L layer, E expert, K slot (rank of an id in its cell).
  std::string_view axes;
  const char* meaning;  // for a person

  [[nodiscard]] std::vector<std::size_t> shape(const TraceAxes& axes_lengths) const;
  // "F16, BF16 or F32".
  [[nodiscard]] std::string dtypes_text() const;
  // "[tokens, layers, experts]".
  [[nodiscard]] std::string axes_text() const;
  // "[token 3, layer 1, expert 5]" of the flattened element.
  [[nodiscard]] std::string place(std::size_t element, std::span<const std::size_t> lengths) const;
};

// All rules, the two main forms first.
const std::vector<TensorRule>& tensor_rules();
// Null for a name that is no part of the format.
const TensorRule* find_tensor_rule(const std::string& name);

}  // namespace moesim
