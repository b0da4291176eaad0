// What import needs to know of each model_type of Hugging Face beyond its config.json: which keys
// it uses and what its modelling code does without saying so in the file.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace moesim {

// Which hidden layers have routed experts.
enum class HfMoeLayers {
  kAll,
  kAfterDense,    // all but the first first_k_dense_replace / num_dense_layers, moe_layer_freq
  kSparseStep,    // decoder_sparse_step and mlp_only_layers
  kPeriodOffset,  // expert_layer_period, expert_layer_offset
  kIndexRange,    // moe_layer_start_index, moe_layer_end_index, moe_layer_interval
  kInterleaved,   // moe_layers or interleave_moe_layer_step
  kLayout,        // moe_layer_layout: one flag a layer
  kPattern,       // E in hybrid_override_pattern
};

// What mixes tokens in the layers that have no attention.
enum class HfMixer {
  kAttentionOnly,
  kMamba,          // Jamba: attn_layer_period, attn_layer_offset
  kShortConv,      // LFM2
  kGatedDeltaNet,  // Qwen3-Next, Qwen3.5
  kMamba2,         // Nemotron-H: hybrid_override_pattern
};

enum class HfAttention { kGqa, kMla, kMoa };

// Which attention layers look back on a window only.
enum class HfWindow {
  kNone,
  kEverywhere,   // sliding_window
  kUpperLayers,  // use_sliding_window, max_window_layers
  kEveryOther,   // layer_types, else layers 0, 2, 4, ...
  kFiveOfSix,    // layer_types, else all but each sixth layer
  kLayout,       // sliding_window_layout, sliding_window_size
  kChunks,       // attention_chunk_size and no_rope_layers, else three of four layers
};

enum class HfGate {
  kSoftmax,
  kSigmoid,
  kSparseMixer,
  kTop1Sigmoid,
  kSoftmaxFlag,  // sigmoid unless moe_primary_router_apply_softmax
};

// Whether the weights of the selected experts are renormalised.
enum class HfNorm { kAlways, kNever, kKeyOrTrue, kKeyOrFalse };

// One shared expert per MoE layer: none, n of the routed size, or of a size of its own.
enum class HfShared { kNone, kCount, kSize };

struct HfFamily {
  std::string_view model_type;
  std::string_view expert_size = "moe_intermediate_size";
  bool expert_size_is_sum = false;  // expert_size is that of all experts together
  std::string_view dense_size = "intermediate_size";
  HfShared shared = HfShared::kNone;
  std::string_view shared_key = "n_shared_experts";
  bool shared_gate = false;
  HfMoeLayers layers = HfMoeLayers::kAll;
  HfGate gate = HfGate::kSoftmax;
  bool reads_scoring_func = false;  // scoring_func and topk_method override the gate
  HfNorm norm = HfNorm::kAlways;
  bool selection_bias = false;
  std::string_view selection_bias_key = "";  // a key that switches the bias off
  std::string_view scale_key = "routed_scaling_factor";
  HfAttention attention = HfAttention::kGqa;
  HfMixer mixer = HfMixer::kAttentionOnly;
  HfWindow window = HfWindow::kNone;
  std::string_view bias_key = "attention_bias";  // biases of query, key and value
  bool bias = false;                             // without the key
  bool bias_on_output = true;                    // the output projection has one too
  std::string_view qk_norm = "none";
  std::string_view qk_norm_key = "";  // a key that must be true for the norm
  bool output_gate = false;
  bool sinks = false;
  bool layer_norm_bias = false;  // LayerNorm instead of RMSNorm
  bool expert_bias = false;
  bool router_bias = false;
  std::size_t expert_matrices = 3;
  bool tied = false;  // without tie_word_embeddings
};

// nullptr for an unknown type. "_text", the suffix of the language part, does not count.
const HfFamily* find_hf_family(const std::string& model_type);

// Every model_type that import knows, sorted.
std::vector<std::string> hf_model_types();

}  // namespace moesim
