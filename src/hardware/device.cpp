#include "hardware/device.h"

#include <fmt/format.h>

#include <cmath>

namespace moesim {

std::map<std::string, std::size_t> Device::count_tags() const {
  std::map<std::string, std::size_t> counts = {
      {"measured", 0}, {"vendor", 0}, {"derived", 0}, {"estimate", 0}};
  for (const auto& entry : provenance.items()) ++counts[entry.value().at("tag").get<std::string>()];
  return counts;
}

std::string weight_format(double bits) {
  if (bits == 16.0 || bits == 32.0) return fmt::format("f{:.0f}", bits);
  return fmt::format("q{:.0f}", std::floor(bits));
}

}  // namespace moesim
