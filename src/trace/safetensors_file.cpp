#include "trace/safetensors_file.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <bit>
#include <boost/interprocess/exceptions.hpp>
#include <boost/interprocess/file_mapping.hpp>
#include <boost/interprocess/mapped_region.hpp>
#include <limits>
#include <optional>
#include <utility>

#include "config/json_file.h"
#include "core/files.h"

namespace moesim {

static_assert(std::endian::native == std::endian::little, "tensors are little-endian in the file");

namespace {

constexpr std::size_t kLengthBytes = 8;
// The limit of the reference implementation; no sane header comes near.
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;

struct DTypeRow {
  const char* name;
  std::size_t size;
};
// In the order of DType.
constexpr std::array<DTypeRow, 15> kDTypes{{{"BOOL", 1},
                                            {"U8", 1},
                                            {"I8", 1},
                                            {"F8_E4M3", 1},
                                            {"F8_E5M2", 1},
                                            {"U16", 2},
                                            {"I16", 2},
                                            {"F16", 2},
                                            {"BF16", 2},
                                            {"U32", 4},
                                            {"I32", 4},
                                            {"F32", 4},
                                            {"U64", 8},
                                            {"I64", 8},
                                            {"F64", 8}}};

std::string shown_value(const Json& value) {
  constexpr std::size_t kLongest = 60;
  std::string text = value.dump();
  if (text.size() > kLongest) text = text.substr(0, kLongest) + "...";
  return text;
}

// The list of unsigned integers that `value` is; nullopt for anything else.
std::optional<std::vector<std::size_t>> unsigned_list(const Json& value) {
  if (!value.is_array()) return std::nullopt;
  std::vector<std::size_t> result;
  for (const Json& item : value) {
    if (!item.is_number_unsigned()) return std::nullopt;
    result.push_back(item.get<std::size_t>());
  }
  return result;
}

// Bytes of a tensor; nullopt when the product exceeds 64 bits.
std::optional<std::uint64_t> byte_count(std::span<const std::size_t> shape, std::size_t size) {
  if (std::find(shape.begin(), shape.end(), 0U) != shape.end()) return 0;
  std::uint64_t count = size;
  for (const std::size_t dimension : shape) {
    if (count > std::numeric_limits<std::uint64_t>::max() / dimension) return std::nullopt;
    count *= dimension;
  }
  return count;
}

// Reads one entry of the header; messages are without file and tensor.
class TensorEntry {
 public:
  TensorEntry(const SafetensorsFile& file, const std::string& name, const Json& entry)
      : file_(file), name_(name), entry_(entry) {}

  [[nodiscard]] SafetensorsTensor read(std::span<const std::byte> data) const {
    if (!entry_.is_object()) fail("expected an object, got " + shown_value(entry_));
    SafetensorsTensor tensor;
    tensor.name = name_;
    tensor.dtype = dtype();
    const auto shape = unsigned_list(value("shape"));
    if (!shape) fail("expected a shape of integers >= 0, got " + shown_value(value("shape")));
    tensor.shape = *shape;
    const auto offsets = unsigned_list(value("data_offsets"));
    if (!offsets || offsets->size() != 2 || offsets->front() > offsets->back()) {
      fail("expected data_offsets [begin, end], got " + shown_value(value("data_offsets")));
    }
    const std::size_t begin = offsets->front();
    const std::size_t end = offsets->back();
    if (end > data.size()) {
      fail(
          fmt::format("expected data_offsets within the {} bytes after the header, got [{}, {}]: "
                      "is the file truncated?",
                      data.size(), begin, end));
    }
    const auto bytes = byte_count(tensor.shape, dtype_size(tensor.dtype));
    if (!bytes || *bytes != end - begin) {
      fail(fmt::format("expected {} bytes for {} {}, got data_offsets of {} bytes",
                       bytes ? std::to_string(*bytes) : "more than 2^64", to_string(tensor.dtype),
                       shape_text(tensor.shape), end - begin));
    }
    tensor.bytes = data.subspan(begin, end - begin);
    return tensor;
  }

 private:
  [[noreturn]] void fail(const std::string& message) const {
    throw file_.tensor_error(name_, message);
  }

  [[nodiscard]] const Json& value(const char* key) const {
    const auto found = entry_.find(key);
    if (found == entry_.end()) fail(fmt::format("expected the key \"{}\", got none", key));
    return *found;
  }

  [[nodiscard]] DType dtype() const {
    const Json& name = value("dtype");
    for (std::size_t i = 0; i < kDTypes.size(); ++i) {
      if (name == kDTypes[i].name) return static_cast<DType>(i);
    }
    fail("expected a known dtype (F16, BF16, F32, U8, U16, I32, I64, ...), got " +
         shown_value(name));
  }

  const SafetensorsFile& file_;
  const std::string& name_;
  const Json& entry_;
};

std::map<std::string, std::string> read_metadata(const Json& node, const std::string& shown) {
  if (!node.is_object()) {
    throw user_error(shown, "expected __metadata__ to be an object, got " + shown_value(node));
  }
  std::map<std::string, std::string> result;
  for (const auto& [key, value] : node.items()) {
    if (!value.is_string()) {
      throw user_error(shown, fmt::format("metadata \"{}\": expected a string, got {}", key,
                                          shown_value(value)));
    }
    result.emplace(key, value.get<std::string>());
  }
  return result;
}

// The header's text, its length checked.
std::string header_text(std::span<const std::byte> file, const std::string& shown) {
  if (file.size() < kLengthBytes) {
    throw user_error(shown, fmt::format("expected a safetensors file of at least {} bytes, got {}",
                                        kLengthBytes, file.size()));
  }
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), sizeof(length));
  const std::uint64_t most = std::min<std::uint64_t>(file.size() - kLengthBytes, kMaxHeaderBytes);
  if (length > most) {
    throw user_error(
        shown, fmt::format("header: expected a length of at most {} bytes (the file has {}), got "
                           "{}: truncated, or no safetensors file",
                           most, file.size(), length));
  }
  const auto bytes = file.subspan(kLengthBytes, static_cast<std::size_t>(length));
  std::string text(bytes.size(), '\0');
  std::memcpy(text.data(), bytes.data(), bytes.size());
  return text;
}

}  // namespace

std::string to_string(DType dtype) { return kDTypes.at(static_cast<std::size_t>(dtype)).name; }
std::size_t dtype_size(DType dtype) { return kDTypes.at(static_cast<std::size_t>(dtype)).size; }

std::string shape_text(std::span<const std::size_t> shape) {
  return fmt::format("[{}]", fmt::join(shape.begin(), shape.end(), ", "));
}

SafetensorsFile::SafetensorsFile(std::string shown) : shown_(std::move(shown)) {}
SafetensorsFile::~SafetensorsFile() = default;

std::shared_ptr<const SafetensorsFile> SafetensorsFile::open(const std::filesystem::path& path,
                                                             const std::string& shown) {
  require_regular_file(path, shown);
  const std::shared_ptr<SafetensorsFile> file(new SafetensorsFile(shown));
  std::error_code error;
  if (std::filesystem::file_size(path, error) == 0) {  // Nothing to map.
    file->parse({});
    return file;
  }
  namespace ipc = boost::interprocess;
  try {
    const ipc::file_mapping mapping(path.c_str(), ipc::read_only);
    file->mapping_ = std::make_unique<ipc::mapped_region>(mapping, ipc::read_only);
  } catch (const ipc::interprocess_exception& failure) {
    throw user_error(shown, std::string("cannot be read: ") + failure.what());
  }
  file->parse(
      {static_cast<const std::byte*>(file->mapping_->get_address()), file->mapping_->get_size()});
  return file;
}

std::shared_ptr<const SafetensorsFile> SafetensorsFile::from_bytes(std::vector<std::byte> image,
                                                                   const std::string& shown) {
  const std::shared_ptr<SafetensorsFile> file(new SafetensorsFile(shown));
  file->image_ = std::move(image);
  file->parse(file->image_);
  return file;
}

const SafetensorsTensor* SafetensorsFile::find(const std::string& name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

UserError SafetensorsFile::tensor_error(const std::string& name, const std::string& message) const {
  return user_error(fmt::format("{}: tensor \"{}\"", shown_, name), message);
}

void SafetensorsFile::parse(std::span<const std::byte> file) {
  const std::string text = header_text(file, shown_);
  const auto data = file.subspan(kLengthBytes + text.size());
  const Json header = parse_json(text, shown_ + ": header");
  if (!header.is_object()) {
    throw user_error(shown_ + ": header", "expected an object, got " + shown_value(header));
  }
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") {
      metadata_ = read_metadata(entry, shown_);
    } else {
      tensors_.emplace(name, TensorEntry(*this, name, entry).read(data));
    }
  }
  check_tiling(data);
}

void SafetensorsFile::check_tiling(std::span<const std::byte> data) const {
  const std::byte* const base = data.data();
  std::vector<const SafetensorsTensor*> order;
  for (const auto& [name, tensor] : tensors_) order.push_back(&tensor);
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return std::pair(a->bytes.data(), a->bytes.size()) <
           std::pair(b->bytes.data(), b->bytes.size());
  });
  std::size_t end = 0;
  const std::string* previous = nullptr;
  for (const SafetensorsTensor* tensor : order) {
    const auto begin = static_cast<std::size_t>(tensor->bytes.data() - base);
    if (begin != end) {
      throw tensor_error(
          tensor->name,
          fmt::format("expected to begin at byte {} ({}), got {}: tensors {}", end,
                      previous == nullptr ? "the start of the data" : "the end of " + *previous,
                      begin, begin < end ? "overlap" : "leave a gap"));
    }
    end = begin + tensor->bytes.size();
    previous = &tensor->name;
  }
  if (end != data.size()) {
    throw user_error(shown_, fmt::format("expected {} bytes of tensors after the header, got {}",
                                         end, data.size()));
  }
}

}  // namespace moesim
