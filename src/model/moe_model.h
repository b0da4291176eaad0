// Shape of a mixture-of-experts language model: what each part weighs. No weights are held.
//
// Layers are counted two ways: hidden layers (all decoder layers, 0..num_hidden_layers-1) and MoE
// layers (LayerId, 0 = the first MoE layer).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "config/section.h"
#include "core/ids.h"
#include "model/gate_spec.h"

namespace moesim {

// Attention of one model. `type` is a name of the kinds in docs/models.md: gqa (MHA is gqa with as
// many key-value heads as heads), mla, moa (JetMoE's mixture of attention heads).
struct AttentionShape {
  std::string type = "gqa";
  std::size_t num_attention_heads = 0;
  std::size_t num_key_value_heads = 0;
  std::size_t head_dim = 0;
  bool qkv_bias = false;
  bool output_bias = false;
  std::string qk_norm = "none";  // none, head (one vector of head_dim), full (over all heads)
  bool sinks = false;            // one learned scalar per head (gpt-oss)
  std::size_t q_lora_rank = 0;   // mla; 0 = no query compression
  std::size_t kv_lora_rank = 0;  // mla
  std::size_t qk_nope_head_dim = 0;
  std::size_t qk_rope_head_dim = 0;
  std::size_t v_head_dim = 0;
  bool output_gate = false;             // the query projection also makes a gate (Qwen3-Next)
  std::size_t num_experts = 0;          // moa: sets of query and output matrices
  std::size_t num_experts_per_tok = 0;  // moa: sets that one token runs
  // Attention layers without the window may have heads of their own (Gemma 4); 0 = as the others.
  std::size_t global_head_dim = 0;
  std::size_t num_global_key_value_heads = 0;
  bool attention_k_eq_v = false;              // those layers make keys and values by one matrix
  std::size_t sliding_window = 0;             // positions; 0 = full attention everywhere
  std::vector<std::size_t> sliding_layers;    // hidden layers with the window; empty = all
  std::vector<std::size_t> attention_layers;  // hidden layers that have attention; empty = all
};

struct MoeModel {
  std::string name;
  std::size_t hidden_size = 0;
  std::size_t num_hidden_layers = 0;
  std::vector<std::size_t> moe_layers;  // hidden indices, increasing
  std::size_t num_experts = 0;
  std::size_t num_experts_per_tok = 0;
  std::size_t moe_intermediate_size = 0;
  std::size_t expert_matrices = 3;  // gate, up, down; 2 without a gate (Nemotron)
  bool expert_bias = false;         // one value per output of each expert matrix (gpt-oss)
  bool router_bias = false;         // one value per expert (gpt-oss)
  std::size_t shared_expert_intermediate_size = 0;
  bool shared_expert_gate = false;    // Qwen: one vector of hidden_size per MoE layer
  std::size_t intermediate_size = 0;  // dense layers
  std::size_t vocab_size = 0;
  bool tie_word_embeddings = false;
  GateSpec gate;
  AttentionShape attention;
  // Parts that nothing above covers (state-space mixers, biases of norms), all layers together.
  std::uint64_t other_params = 0;
  std::string source;  // where the numbers are from, and how other_params was found

  // --- parameter counts ---
  [[nodiscard]] std::uint64_t expert_params() const;         // one routed expert, biases included
  [[nodiscard]] std::uint64_t router_params() const;         // one MoE layer
  [[nodiscard]] std::uint64_t shared_expert_params() const;  // one MoE layer, its gate included
  [[nodiscard]] std::uint64_t dense_ffn_params() const;      // one dense layer
  // Attention, two norm vectors and this layer's share of other_params: an equal share, the
  // remainder one by one to the first layers.
  [[nodiscard]] std::uint64_t mixer_params(std::size_t hidden_layer) const;
  // The part of mixer_params() that one token reads: less, only for moa, the sets it does not run.
  [[nodiscard]] std::uint64_t active_mixer_params(std::size_t hidden_layer) const;
  [[nodiscard]] std::uint64_t embedding_params() const;  // the input table
  [[nodiscard]] std::uint64_t head_params() const;       // the output matrix, also where it is tied
  [[nodiscard]] std::uint64_t total_params() const;
  [[nodiscard]] std::uint64_t routed_params() const;  // all routed experts of all layers
  // Parameters that one token uses, in the three conventions that publishers follow: all of them;
  // without an input table that is apart from the head; without table and head.
  [[nodiscard]] std::uint64_t active_params() const;
  [[nodiscard]] std::uint64_t active_params_without_input_table() const;
  [[nodiscard]] std::uint64_t active_params_without_tables() const;

  // Values (not bytes) that one token adds to the key-value cache of this layer; 0 without
  // attention.
  [[nodiscard]] std::uint64_t kv_values_per_token(std::size_t hidden_layer) const;
  [[nodiscard]] std::uint64_t kv_values_per_token() const;  // all layers together
  // Positions that attention in this layer looks back on at most; 0 = all.
  [[nodiscard]] std::size_t attention_window(std::size_t hidden_layer) const;
  [[nodiscard]] bool is_moe_layer(std::size_t hidden_layer) const;
  [[nodiscard]] bool has_attention(std::size_t hidden_layer) const;
};

// Reads a model description (docs/models.md), every key of it. Throws UserError with file and
// pointer for an unknown key, a value out of range and keys that contradict each other.
MoeModel read_model(Section section);

// The description as JSON, the form that read_model takes; defaults are left out.
Json to_json(const MoeModel& model);

// The same as text for a file: one line per key of the top level.
std::string description_text(const MoeModel& model);

}  // namespace moesim
