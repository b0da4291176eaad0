#include "calibration/token_arithmetic.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "core/rng.h"

namespace moesim {

void begin_token(std::uint32_t row, std::span<float> x) {
  Rng rng = Rng::for_component(row, "token");
  for (float& value : x) value = static_cast<float>(rng.uniform() * 2 - 1);
}

void fold(std::span<const float> y, std::span<float> x) {
  const std::size_t parts = (y.size() + x.size() - 1) / x.size();
  const float scale = 1.0F / std::sqrt(static_cast<float>(std::max<std::size_t>(parts, 1)));
  for (std::size_t first = 0; first < y.size(); first += x.size()) {
    const auto part = y.subspan(first, std::min(x.size(), y.size() - first));
    for (std::size_t i = 0; i < part.size(); ++i) x[i] += scale * part[i];
  }
}

// FNV-1a over words: nothing here needs to withstand an adversary.
std::uint64_t checksum_of(std::span<const float> values, std::uint64_t before) {
  std::uint64_t hash = before ^ 0xCBF29CE484222325U;
  for (const float value : values) {
    hash = (hash ^ std::bit_cast<std::uint32_t>(value)) * 0x100000001B3U;
    hash ^= hash >> 32;
  }
  return hash;
}

}  // namespace moesim
