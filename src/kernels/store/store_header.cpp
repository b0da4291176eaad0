#include "kernels/store/store_header.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <string_view>
#include <system_error>

#include "core/errors.h"

namespace moesim {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kMagic = "MOESTORE";
constexpr std::uint32_t kVersion = 2;

// The fields, as they lie in the file; the checksums of the records follow.
struct Fields {
  std::array<char, 8> magic{};
  std::uint32_t version = kVersion;
  std::uint32_t format = 0;
  std::uint64_t layers = 0;
  std::uint64_t experts = 0;
  std::uint64_t hidden = 0;
  std::uint64_t intermediate = 0;
  std::uint64_t seed = 0;
  std::uint64_t record_bytes = 0;
  std::uint64_t checksum = 0;  // XXH3 of the header with 0 here
  std::array<std::uint64_t, 7> unused{};
};
static_assert(sizeof(Fields) == 128);

std::uint64_t header_checksum(std::span<std::byte> header) {
  Fields fields;
  std::memcpy(&fields, header.data(), sizeof fields);
  fields.checksum = 0;
  std::memcpy(header.data(), &fields, sizeof fields);
  return xxh3(header);
}

StoreShape shape_of(const Fields& fields) {
  return {fields.layers,
          fields.experts,
          fields.hidden,
          fields.intermediate,
          static_cast<WeightFormat>(fields.format),
          fields.seed};
}

// Whether the fields can be those of a store at all, so that sizes can be computed from them.
bool is_plausible(const Fields& fields) {
  if (fields.format >= kWeightFormats.size()) return false;
  try {
    const StoreShape shape = shape_of(fields);
    static_cast<void>(store_bytes(shape));
    return RecordLayout(shape).record_bytes() == fields.record_bytes;
  } catch (const InvariantError&) {
    return false;
  }
}

std::uint64_t length_of(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::not_found) {
    throw user_error(path.string(), "expected an expert store, got nothing: no such file");
  }
  if (!error && !fs::is_regular_file(status)) {
    throw user_error(path.string(), "expected an expert store, got no regular file");
  }
  const std::uint64_t length = fs::file_size(path, error);
  if (error) throw user_error(path.string(), "cannot be read: " + error.message());
  return length;
}

void read_bytes(std::ifstream& in, const fs::path& path, std::span<std::byte> bytes) {
  in.seekg(0);
  in.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  if (!in) throw user_error(path.string(), "the header of the expert store cannot be read");
}

Fields read_fields(std::ifstream& in, const fs::path& path, std::uint64_t length) {
  Fields fields;
  if (length >= sizeof fields) read_bytes(in, path, std::as_writable_bytes(std::span(&fields, 1)));
  if (std::string_view(fields.magic.data(), fields.magic.size()) != kMagic) {
    throw user_error(path.string(), "expected an expert store (its first bytes are " +
                                        std::string(kMagic) + "), got another file");
  }
  if (fields.version != kVersion) {
    throw user_error(path.string(), fmt::format("expected an expert store of version {}, got {}",
                                                kVersion, fields.version));
  }
  if (!is_plausible(fields)) {
    throw user_error(
        path.string(),
        fmt::format("the header of the expert store is damaged: expected sizes that fit each "
                    "other, got {} layers, {} experts, hidden {}, intermediate {}, format {}, "
                    "records of {} bytes",
                    fields.layers, fields.experts, fields.hidden, fields.intermediate,
                    fields.format, fields.record_bytes));
  }
  return fields;
}

[[noreturn]] void refuse_length(const fs::path& path, std::uint64_t expected, std::uint64_t got) {
  throw user_error(path.string(),
                   fmt::format("expected an expert store of {} bytes, got {}: {}", expected, got,
                               got < expected ? "it is cut off" : "it is too long"));
}

}  // namespace

std::uint64_t xxh3(std::span<const std::byte> bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

std::size_t header_bytes(const StoreShape& shape) {
  const std::size_t used = sizeof(Fields) + shape.layers * shape.experts * sizeof(std::uint64_t);
  return (used + kStorePage - 1) / kStorePage * kStorePage;
}

std::vector<std::byte> encode_header(const StoreShape& shape,
                                     std::span<const std::uint64_t> checksums) {
  Fields fields;
  std::copy(kMagic.begin(), kMagic.end(), fields.magic.begin());
  fields.format = static_cast<std::uint32_t>(shape.format);
  fields.layers = shape.layers;
  fields.experts = shape.experts;
  fields.hidden = shape.hidden;
  fields.intermediate = shape.intermediate;
  fields.seed = shape.seed;
  fields.record_bytes = RecordLayout(shape).record_bytes();
  std::vector<std::byte> header(header_bytes(shape));
  std::memcpy(header.data(), &fields, sizeof fields);
  std::memcpy(header.data() + sizeof fields, checksums.data(), checksums.size_bytes());
  fields.checksum = header_checksum(header);
  std::memcpy(header.data(), &fields, sizeof fields);
  return header;
}

StoreHeader read_header(const fs::path& path) {
  const std::uint64_t length = length_of(path);
  std::ifstream in(path, std::ios::binary);
  if (!in) {
    throw user_error(path.string(), "cannot be read: " + std::generic_category().message(errno));
  }
  const Fields fields = read_fields(in, path, length);
  const StoreShape shape = shape_of(fields);
  if (length < header_bytes(shape)) refuse_length(path, store_bytes(shape), length);
  std::vector<std::byte> header(header_bytes(shape));
  read_bytes(in, path, header);
  if (const std::uint64_t checksum = header_checksum(header); checksum != fields.checksum) {
    throw user_error(path.string(),
                     fmt::format("the header of the expert store is damaged: expected checksum "
                                 "{:016x}, got {:016x}",
                                 fields.checksum, checksum));
  }
  if (length != store_bytes(shape)) refuse_length(path, store_bytes(shape), length);
  StoreHeader result{shape, std::vector<std::uint64_t>(shape.layers * shape.experts)};
  std::memcpy(result.checksums.data(), header.data() + sizeof fields,
              result.checksums.size() * sizeof(std::uint64_t));
  return result;
}

}  // namespace moesim
