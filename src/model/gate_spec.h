// Which gate function a router has (docs/models.md): how experts are selected and weighted.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

namespace moesim {

// Codes of the reference, section 5.2. C is A computed in another order and behaves as A.
enum class GateCode : char {
  kA = 'A',  // softmax over all, top-k, renormalised over the selected
  kB = 'B',  // softmax over all, top-k, not renormalised
  kC = 'C',  // top-k of the logits, softmax over the selected
  kD = 'D',  // sigmoid plus a selection bias, group-limited, renormalised, scaled (DeepSeek-V3)
  kE = 'E',  // top-k of the logits, sigmoid, renormalised (SmallThinker)
  kF = 'F',  // SparseMixer, two experts (Phi-3.5-MoE)
  kG = 'G',  // one expert, sigmoid (Llama 4)
};

struct GateSpec {
  GateCode code = GateCode::kA;
  std::size_t n_group = 1;             // groups of experts; only D limits by group
  std::size_t topk_group = 1;          // groups kept
  double routed_scaling_factor = 1.0;  // factor on the weights
  bool norm_topk_prob = true;          // D only: DeepSeek-V3 renormalises; a few relatives do not
  bool selection_bias = false;         // a static bias takes part in the selection
};

// "A".."G" (a longer code such as "B+sg" counts by its first letter); nullopt for anything else.
std::optional<GateCode> parse_gate_code(const std::string& text);

inline std::string to_string(GateCode code) { return std::string(1, static_cast<char>(code)); }

}  // namespace moesim
