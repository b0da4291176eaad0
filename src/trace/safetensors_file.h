// A safetensors file, memory-mapped and checked once on opening: an 8-byte little-endian header
// length, a JSON header, then the tensors, which tile the rest of the file without gap or overlap
// (https://github.com/huggingface/safetensors#format).
//
// Left out: writing (safetensors_writer.h), sub-byte types, and files that shrink while they are
// mapped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/errors.h"

namespace boost::interprocess {
class mapped_region;
}

namespace moesim {

enum class DType : std::uint8_t {
  kBool,
  kU8,
  kI8,
  kF8E4M3,
  kF8E5M2,
  kU16,
  kI16,
  kF16,
  kBF16,
  kU32,
  kI32,
  kF32,
  kU64,
  kI64,
  kF64
};

// "F16" and so on, as the file spells it.
std::string to_string(DType dtype);
// Bytes of one element.
std::size_t dtype_size(DType dtype);

struct SafetensorsTensor {
  std::string name;
  DType dtype = DType::kU8;
  std::vector<std::size_t> shape;
  std::span<const std::byte> bytes;  // need not be aligned

  [[nodiscard]] std::size_t elements() const { return bytes.size() / dtype_size(dtype); }

  // Element `i` of the flattened tensor. REQUIRES: sizeof(T) == dtype_size(dtype), i < elements().
  template <class T>
  [[nodiscard]] T load(std::size_t i) const {
    T value;
    std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
    return value;
  }
};

// "[2560, 16, 64]".
std::string shape_text(std::span<const std::size_t> shape);

class SafetensorsFile {
 public:
  // Maps and validates. Throws UserError, one line that names file, tensor, expected and got.
  // `shown` is how messages call the file.
  static std::shared_ptr<const SafetensorsFile> open(const std::filesystem::path& path,
                                                     const std::string& shown);
  // The same for an image held in memory.
  static std::shared_ptr<const SafetensorsFile> from_bytes(std::vector<std::byte> image,
                                                           const std::string& shown);
  ~SafetensorsFile();
  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;

  [[nodiscard]] const std::string& shown() const { return shown_; }
  [[nodiscard]] const std::map<std::string, SafetensorsTensor>& tensors() const { return tensors_; }
  // Null when there is no such tensor; otherwise valid as long as this file.
  [[nodiscard]] const SafetensorsTensor* find(const std::string& name) const;
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const { return metadata_; }

  // "FILE: tensor "NAME": MESSAGE", not thrown.
  [[nodiscard]] UserError tensor_error(const std::string& name, const std::string& message) const;

 private:
  explicit SafetensorsFile(std::string shown);
  void parse(std::span<const std::byte> file);
  void check_tiling(std::span<const std::byte> data) const;

  std::string shown_;
  std::unique_ptr<boost::interprocess::mapped_region> mapping_;  // null for an image
  std::vector<std::byte> image_;
  std::map<std::string, SafetensorsTensor> tensors_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace moesim
