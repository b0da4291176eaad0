#include "compression/expert_allocation.h"

#include <fmt/format.h>

#include <numeric>

#include "compression/array_errors.h"

namespace moesim {
namespace {

// Bits that a weight may have, as in weights.expert_bits.
constexpr NumberRange kBits{0.5, 32.0};

double bits_at(const Section& section, const Json& row, std::size_t layer, std::size_t expert) {
  const Json& value = row[expert];
  if (!value.is_number() || !kBits.contains(value.get<double>())) {
    throw error_at(section, fmt::format("bits/{}/{}", layer, expert),
                   fmt::format("expected {}, got {}", kBits.text(), shortened(value)));
  }
  return value.get<double>();
}

void read_bits(Section& section, ExpertAllocation& allocation) {
  const Json& layers = section.raw("bits");
  if (!layers.is_array() || layers.empty() || !layers.front().is_array() ||
      layers.front().empty()) {
    throw section.error("bits", "expected an array [layers][experts], got " + shortened(layers));
  }
  allocation.layers = layers.size();
  allocation.experts = layers.front().size();
  allocation.bits.reserve(allocation.layers * allocation.experts);
  for (std::size_t layer = 0; layer < allocation.layers; ++layer) {
    const Json& row = layers[layer];
    if (!row.is_array() || row.size() != allocation.experts) {
      throw error_at(
          section, fmt::format("bits/{}", layer),
          fmt::format("expected {} numbers as in the first layer, got {}", allocation.experts,
                      row.is_array() ? std::to_string(row.size()) : shortened(row)));
    }
    for (std::size_t expert = 0; expert < allocation.experts; ++expert) {
      allocation.bits.push_back(bits_at(section, row, layer, expert));
    }
  }
}

}  // namespace

double ExpertAllocation::mean_bits() const {
  return std::accumulate(bits.begin(), bits.end(), 0.0) / static_cast<double>(bits.size());
}

void ExpertAllocation::require(const RoutingShape& shape, const std::string& whose) const {
  if (layers == shape.layers && experts == shape.experts) return;
  throw user_error(place, fmt::format("expected {} layers of {} experts as in {}, got {} of {}",
                                      shape.layers, shape.experts, whose, layers, experts));
}

ExpertAllocation read_allocation(Section section) {
  ExpertAllocation allocation;
  section.choice_or("schema", kAllocationSchema, {kAllocationSchema});
  allocation.place = section.file() + ": " + section.pointer() + "/bits";
  read_bits(section, allocation);
  allocation.overhead_bits = section.number_or("overhead_bits", 0, {0.0, 16.0});
  allocation.model = section.string_or("model", "");
  for (const char* written :
       {"source", "problem", "objective", "layers", "size", "factors", "provenance"}) {
    section.accept(written);
  }
  section.reject_unread_keys();
  return allocation;
}

}  // namespace moesim
