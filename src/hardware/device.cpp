#include "hardware/device.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace moesim {

std::map<std::string, std::size_t> Device::count_tags() const {
  std::map<std::string, std::size_t> counts = {
      {"measured", 0}, {"vendor", 0}, {"derived", 0}, {"estimate", 0}};
  for (const auto& entry : provenance.items()) ++counts[entry.value().at("tag").get<std::string>()];
  return counts;
}

bool is_weight_format(const std::string& name) {
  if (name == "f16" || name == "f32") return true;
  if (name.size() < 2 || name.size() > 3 || name[0] != 'q') return false;
  const std::string bits = name.substr(1);
  const bool digits =
      std::all_of(bits.begin(), bits.end(), [](char c) { return c >= '0' && c <= '9'; });
  return digits && bits[0] != '0' && std::stoi(bits) < 16;
}

std::string weight_format(double bits) {
  if (bits == 16.0 || bits == 32.0) return fmt::format("f{:.0f}", bits);
  return fmt::format("q{:.0f}", std::floor(bits));
}

}  // namespace moesim
