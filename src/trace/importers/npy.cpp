// NumPy `.npy`: one array of router logits [tokens, layers, experts], little-endian floats of 2, 4
// or 8 bytes in C order. Format: numpy.lib.format, versions 1.0 to 3.0.
//
// Kept: every value; 8-byte floats are rounded to 4 bytes. Left out: everything else, because an
// array carries no more: the user names model, gate and top_k.
#include <fmt/format.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/errors.h"
#include "core/files.h"
#include "core/half.h"
#include "trace/importers/formats.h"
#include "trace/importers/line_reader.h"

namespace moesim {
namespace {

static_assert(std::endian::native == std::endian::little, "values are read as they lie");

struct Header {
  std::string descr;
  bool fortran_order = false;
  std::vector<std::size_t> shape;
  std::size_t data_offset = 0;
};

// The text of the header dictionary; sets the offset of the data behind it.
std::string_view header_text(std::string_view bytes, const std::string& file, std::size_t& offset) {
  constexpr std::string_view kMagic = "\x93NUMPY";
  if (!bytes.starts_with(kMagic) || bytes.size() < 12) {
    throw user_error(file, "expected a .npy file (magic \\x93NUMPY), got something else");
  }
  const auto byte = [&](std::size_t i) {
    return static_cast<std::size_t>(static_cast<unsigned char>(bytes[i]));
  };
  if (byte(6) < 1 || byte(6) > 3) {
    throw user_error(file, fmt::format("expected .npy version 1 to 3, got {}", byte(6)));
  }
  const bool old = byte(6) == 1;
  const std::size_t begin = old ? 10 : 12;
  std::size_t length = byte(8) + (byte(9) << 8U);
  if (!old) length += (byte(10) << 16U) + (byte(11) << 24U);
  if (bytes.size() - begin < length) {
    throw user_error(file, fmt::format("expected a header of {} bytes, got {} (truncated)", length,
                                       bytes.size() - begin));
  }
  offset = begin + length;
  return bytes.substr(begin, length);
}

// What follows 'key': in the dictionary, from its first character on.
std::string_view value_of(std::string_view dictionary, std::string_view key,
                          const std::string& file) {
  const std::string quoted_key = fmt::format("'{}'", key);
  auto at = dictionary.find(quoted_key);
  if (at != std::string_view::npos) {
    at = dictionary.find_first_not_of(" :", at + quoted_key.size());
  }
  if (at == std::string_view::npos) {
    throw user_error(file, fmt::format("header: expected the key {}, got {}", quoted_key,
                                       shown_text(dictionary)));
  }
  return dictionary.substr(at);
}

std::vector<std::size_t> parse_shape(std::string_view text, const std::string& file) {
  const auto close = text.find(')');
  if (!text.starts_with('(') || close == std::string_view::npos) {
    throw user_error(file, "header: expected a shape in parentheses, got " + shown_text(text));
  }
  std::vector<std::size_t> shape;
  std::string_view rest = text.substr(1, close - 1);
  while (!rest.empty()) {
    const auto comma = std::min(rest.find(','), rest.size());
    std::string_view item = rest.substr(0, comma);
    rest.remove_prefix(std::min(comma + 1, rest.size()));
    item.remove_prefix(std::min(item.find_first_not_of(' '), item.size()));
    if (item.empty()) continue;  // The comma after the last dimension.
    const auto size = parse_integer(item);
    if (!size) throw user_error(file, "header: expected whole dimensions, got " + shown_text(item));
    shape.push_back(*size);
  }
  return shape;
}

Header read_header(std::string_view bytes, const std::string& file) {
  Header header;
  const std::string_view text = header_text(bytes, file, header.data_offset);
  const std::string_view descr = value_of(text, "descr", file);
  const auto end = descr.find('\'', 1);
  if (!descr.starts_with('\'') || end == std::string_view::npos) {
    throw user_error(file, "header: expected one dtype, got " + shown_text(descr));
  }
  header.descr = descr.substr(1, end - 1);
  header.fortran_order = !value_of(text, "fortran_order", file).starts_with("False");
  header.shape = parse_shape(value_of(text, "shape", file), file);
  return header;
}

// Bytes per value. Throws UserError for an array that is not [tokens, layers, experts] floats.
std::size_t check_header(const Header& header, const std::string& file) {
  if (header.descr.starts_with('>')) {
    throw user_error(file, fmt::format("dtype: expected little-endian values, got '{}' (convert "
                                       "with .astype('<f4'))",
                                       header.descr));
  }
  const std::size_t width =
      header.descr == "<f2" ? 2 : (header.descr == "<f4" ? 4 : (header.descr == "<f8" ? 8 : 0));
  if (width == 0) {
    throw user_error(file,
                     fmt::format("dtype: expected '<f2', '<f4' or '<f8', got '{}'", header.descr));
  }
  if (header.fortran_order) {
    throw user_error(file,
                     "expected C order, got Fortran order (convert with "
                     "numpy.ascontiguousarray)");
  }
  const auto& shape = header.shape;
  if (shape.size() != 3 || std::count(shape.begin(), shape.end(), std::size_t{0}) > 0) {
    throw user_error(file, fmt::format("shape: expected [tokens, layers, experts], each at least "
                                       "1, got [{}]",
                                       fmt::join(shape, ", ")));
  }
  constexpr std::size_t kLargest = 65535;
  if (shape[1] > kLargest || shape[2] > kLargest) {
    throw user_error(file, fmt::format("shape: expected at most {} layers and experts, got [{}]",
                                       kLargest, fmt::join(shape, ", ")));
  }
  return width;
}

float value_at(std::string_view data, std::size_t width, std::size_t i) {
  const char* at = data.data() + i * width;
  if (width == 2) {
    std::uint16_t half = 0;
    std::memcpy(&half, at, sizeof half);
    return half_is_finite(half) ? half_to_float(half) : std::numeric_limits<float>::quiet_NaN();
  }
  if (width == 4) {
    float value = 0;
    std::memcpy(&value, at, sizeof value);
    return value;
  }
  double value = 0;
  std::memcpy(&value, at, sizeof value);
  // A cast of a double beyond float is undefined; such a value is refused like an infinity.
  return std::abs(value) <= std::numeric_limits<float>::max()
             ? static_cast<float>(value)
             : std::numeric_limits<float>::quiet_NaN();
}

void read_values(std::string_view data, std::size_t width, const std::string& file,
                 TraceData& trace) {
  const RoutingShape& shape = trace.shape;
  const std::size_t row = shape.layers * shape.experts;
  // Compare by division, because a hostile shape overflows the product.
  if (data.size() / width / row != shape.tokens || data.size() % (width * row) != 0) {
    throw user_error(
        file, fmt::format("expected {} x {} x {} values of {} bytes, got {} bytes", shape.tokens,
                          shape.layers, shape.experts, width, data.size()));
  }
  trace.logits.resize(shape.tokens * row);
  for (std::size_t i = 0; i < trace.logits.size(); ++i) {
    trace.logits[i] = value_at(data, width, i);
    if (std::isfinite(trace.logits[i])) continue;
    throw user_error(file,
                     fmt::format("token {}, layer {}, expert {}: expected a finite number, "
                                 "got NaN, an infinity or a value beyond 4-byte floats",
                                 i / row, i / shape.experts % shape.layers, i % shape.experts));
  }
}

}  // namespace

ImportedTrace read_npy(const ImportRequest& request) {
  const std::string file = request.inputs.front().string();
  const std::string bytes = read_text_file(request.inputs.front(), file);
  const Header header = read_header(bytes, file);
  const std::size_t width = check_header(header, file);
  known_experts(request, header.shape[2], file);
  ImportedTrace imported;
  TraceData& data = imported.data;
  data.shape = {header.shape[0], header.shape[1], header.shape[2]};
  data.logits_dtype = width == 2 ? "F16" : "F32";
  read_values(std::string_view(bytes).substr(header.data_offset), width, file, data);
  if (width == 8) imported.notes.emplace_back("8-byte floats were rounded to 4 bytes");
  if (request.prefill_tokens == 0) {
    imported.notes.emplace_back("the phase is not recorded: all tokens count as decoded");
  }
  return imported;
}

}  // namespace moesim
