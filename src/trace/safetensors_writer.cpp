#include "trace/safetensors_writer.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "config/json_file.h"
#include "core/errors.h"

namespace moesim {
namespace {

constexpr std::size_t kAlignment = 8;

std::string header_text(std::span<const TensorToWrite> tensors,
                        const std::map<std::string, std::string>& metadata) {
  Json header = Json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::size_t begin = 0;
  for (const TensorToWrite& tensor : tensors) {
    const std::size_t end = begin + tensor.bytes.size();
    header[tensor.name] = {{"dtype", to_string(tensor.dtype)},
                           {"shape", tensor.shape},
                           {"data_offsets", {begin, end}}};
    begin = end;
  }
  // A string that is not UTF-8 (from a foreign recording) must not stop the writing.
  std::string text = header.dump(-1, ' ', false, Json::error_handler_t::replace);
  text.resize((text.size() + kAlignment - 1) / kAlignment * kAlignment, ' ');
  return text;
}

}  // namespace

std::vector<std::byte> safetensors_image(std::vector<TensorToWrite> tensors,
                                         const std::map<std::string, std::string>& metadata) {
  std::size_t total = 0;
  for (const TensorToWrite& tensor : tensors) {
    std::size_t bytes = dtype_size(tensor.dtype);
    for (const std::size_t dimension : tensor.shape) bytes *= dimension;
    if (bytes != tensor.bytes.size()) {
      throw InvariantError("tensor " + tensor.name + " does not fill its shape");
    }
    total += bytes;
  }
  std::stable_sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) {
    return dtype_size(a.dtype) > dtype_size(b.dtype);
  });
  const std::string header = header_text(tensors, metadata);
  const std::uint64_t length = header.size();
  std::vector<std::byte> image;
  image.reserve(sizeof(length) + header.size() + total);
  const auto append = [&image](const void* from, std::size_t size) {
    const auto* const bytes = static_cast<const std::byte*>(from);
    image.insert(image.end(), bytes, bytes + size);
  };
  append(&length, sizeof(length));
  append(header.data(), header.size());
  for (const TensorToWrite& tensor : tensors) append(tensor.bytes.data(), tensor.bytes.size());
  return image;
}

}  // namespace moesim
