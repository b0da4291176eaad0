// Dense identifiers. Layers are counted over MoE layers only (0 is the first MoE layer).
#pragma once

#include <cstddef>
#include <cstdint>

namespace moesim {

enum class LayerId : std::uint16_t {};
enum class ExpertId : std::uint16_t {};
// layer * experts + expert: the index of one routed expert in every per-expert array.
enum class ExpertKey : std::uint32_t {};

// MoE layers, routed experts per layer, tokens: what a trace holds and what a policy is built for.
struct RoutingShape {
  std::size_t tokens = 0;
  std::size_t layers = 0;
  std::size_t experts = 0;
};

constexpr std::size_t index(LayerId id) { return static_cast<std::size_t>(id); }
constexpr std::size_t index(ExpertId id) { return static_cast<std::size_t>(id); }
constexpr std::size_t index(ExpertKey key) { return static_cast<std::size_t>(key); }

constexpr ExpertKey expert_key(LayerId layer, ExpertId expert, std::size_t experts) {
  return static_cast<ExpertKey>(static_cast<std::uint32_t>(index(layer) * experts + index(expert)));
}
constexpr LayerId layer_of(ExpertKey key, std::size_t experts) {
  return static_cast<LayerId>(static_cast<std::uint16_t>(index(key) / experts));
}
constexpr ExpertId expert_of(ExpertKey key, std::size_t experts) {
  return static_cast<ExpertId>(static_cast<std::uint16_t>(index(key) % experts));
}

// A prefill token is part of the prompt: routed unbiased and processed in one union pass per layer.
enum class Phase : std::uint8_t { kPrefill = 0, kDecode = 1 };

}  // namespace moesim
