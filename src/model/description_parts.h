// The parts of a model description that have rules of their own: the gate and the attention.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "config/section.h"
#include "model/gate_spec.h"
#include "model/moe_model.h"

namespace moesim {

// The largest numbers that a description may state; they keep every count within 64 bits.
inline constexpr std::size_t kLargestSize = std::size_t{1} << 17;  // of one dimension
inline constexpr std::size_t kLargestVocabulary = std::size_t{1} << 32;
inline constexpr std::size_t kLargestWindow = std::size_t{1} << 40;
inline constexpr std::size_t kMostExperts = 4096;
inline constexpr std::size_t kMostLayers = 1024;
inline constexpr std::size_t kMostHeads = 1024;
inline constexpr std::size_t kLargestHead = 16384;

// A list of hidden layers: increasing, at least one, each below `layers`.
std::vector<std::size_t> read_layer_list(Section& section, const std::string& key,
                                         std::size_t layers);

// Reads "gate". Throws UserError where a key does not apply to the function, and where the function
// contradicts `experts` or `k`.
GateSpec read_gate(Section section, std::size_t experts, std::size_t k);
Json to_json(const GateSpec& gate);

// Reads "attention". The keys of one kind are unknown to the others.
AttentionShape read_attention(Section section, std::size_t hidden_size, std::size_t layers);
Json to_json(const AttentionShape& attention);

}  // namespace moesim
