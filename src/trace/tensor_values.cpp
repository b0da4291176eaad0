#include "trace/tensor_values.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>

#include "core/errors.h"
#include "core/half.h"

namespace moesim {
namespace {

// Bits, their exponent field, and their value as float.
struct Half {
  using Bits = std::uint16_t;
  static constexpr Bits kExponent = 0x7C00;
  static constexpr Bits kMantissa = 0x03FF;
  static float value(Bits bits) { return half_to_float(bits); }
};
struct BFloat16 {
  using Bits = std::uint16_t;
  static constexpr Bits kExponent = 0x7F80;
  static constexpr Bits kMantissa = 0x007F;
  static float value(Bits bits) { return bfloat16_to_float(bits); }
};
struct Single {
  using Bits = std::uint32_t;
  static constexpr Bits kExponent = 0x7F800000;
  static constexpr Bits kMantissa = 0x007FFFFF;
  static float value(Bits bits) { return std::bit_cast<float>(bits); }
};

// Calls `visit` with the format of `dtype`; false for every other type.
template <class Visit>
bool with_float_format(DType dtype, Visit&& visit) {
  switch (dtype) {
    case DType::kF16:
      visit(Half{});
      return true;
    case DType::kBF16:
      visit(BFloat16{});
      return true;
    case DType::kF32:
      visit(Single{});
      return true;
    default:
      return false;
  }
}

template <class Format>
typename Format::Bits load_bits(const std::byte* from, std::size_t i) {
  typename Format::Bits bits;
  std::memcpy(&bits, from + i * sizeof(bits), sizeof(bits));
  return bits;
}

template <class Format>
bool has_non_finite(const std::byte* from, std::size_t count) {
  typename Format::Bits found = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const bool bad = (load_bits<Format>(from, i) & Format::kExponent) == Format::kExponent;
    found = static_cast<typename Format::Bits>(found | (bad ? 1U : 0U));
  }
  return found != 0;
}

template <class Format>
std::optional<std::size_t> find_non_finite(std::span<const std::byte> bytes) {
  // Whole blocks are tested without a branch; only a block with a hit is searched.
  constexpr std::size_t kBlock = 4096;
  const std::size_t count = bytes.size() / sizeof(typename Format::Bits);
  for (std::size_t first = 0; first < count; first += kBlock) {
    const std::size_t size = std::min(kBlock, count - first);
    const std::byte* const from = bytes.data() + first * sizeof(typename Format::Bits);
    if (!has_non_finite<Format>(from, size)) continue;
    for (std::size_t i = 0; i < size; ++i) {
      if (has_non_finite<Format>(from + i * sizeof(typename Format::Bits), 1)) return first + i;
    }
  }
  return std::nullopt;
}

}  // namespace

void read_floats(const SafetensorsTensor& tensor, std::size_t first, std::span<float> out) {
  const bool known = with_float_format(tensor.dtype, [&tensor, first, out](auto format) {
    using Format = decltype(format);
    const std::byte* const from = tensor.bytes.data() + first * sizeof(typename Format::Bits);
    float* const to = out.data();
    const std::size_t count = out.size();
    for (std::size_t i = 0; i < count; ++i) to[i] = Format::value(load_bits<Format>(from, i));
  });
  if (!known) throw InvariantError("tensor " + tensor.name + " does not hold floats");
}

std::optional<std::size_t> first_non_finite(const SafetensorsTensor& tensor) {
  std::optional<std::size_t> result;
  with_float_format(tensor.dtype, [&tensor, &result](auto format) {
    result = find_non_finite<decltype(format)>(tensor.bytes);
  });
  return result;
}

std::string non_finite_text(const SafetensorsTensor& tensor, std::size_t i) {
  std::string text;
  with_float_format(tensor.dtype, [&tensor, &text, i](auto format) {
    using Format = decltype(format);
    const auto bits = load_bits<Format>(tensor.bytes.data(), i);
    if ((bits & Format::kMantissa) != 0) {
      text = "NaN";
    } else {
      // The sign bit is the highest.
      text = (bits >> (8 * sizeof(bits) - 1)) != 0 ? "-infinity" : "infinity";
    }
  });
  return text;
}

}  // namespace moesim
