// Builds the image of a safetensors file in memory.
#pragma once

#include <cstddef>
#include <cstring>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "trace/safetensors_file.h"

namespace moesim {

struct TensorToWrite {
  std::string name;
  DType dtype = DType::kU8;
  std::vector<std::size_t> shape;
  std::vector<std::byte> bytes;  // little-endian elements, row-major
};

// The bytes of `values` as they stand.
template <class T>
std::vector<std::byte> bytes_of(std::span<const T> values) {
  std::vector<std::byte> bytes(values.size_bytes());
  if (!bytes.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

// The complete file. Tensors are laid out widest element first, in the given order among equals,
// and the header is padded to a multiple of eight bytes; so each tensor is naturally aligned
// although the format allows no gap. Equal arguments give equal bytes. Throws InvariantError where
// a shape does not fit its bytes.
std::vector<std::byte> safetensors_image(std::vector<TensorToWrite> tensors,
                                         const std::map<std::string, std::string>& metadata);

}  // namespace moesim
