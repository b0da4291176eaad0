// The table of families. Facts are from the configuration and modelling classes of Hugging Face
// transformers, or of the checkpoint where transformers has none.
#include "model/hf_families.h"

#include <algorithm>
#include <array>

namespace moesim {
namespace {

constexpr HfFamily kDeepSeekV3{.model_type = "deepseek_v3",
                               .shared = HfShared::kCount,
                               .layers = HfMoeLayers::kAfterDense,
                               .gate = HfGate::kSigmoid,
                               .reads_scoring_func = true,
                               .norm = HfNorm::kKeyOrTrue,
                               .selection_bias = true,
                               .attention = HfAttention::kMla};

constexpr HfFamily kQwen3Next{.model_type = "qwen3_next",
                              .shared = HfShared::kSize,
                              .shared_key = "shared_expert_intermediate_size",
                              .shared_gate = true,
                              .layers = HfMoeLayers::kSparseStep,
                              .norm = HfNorm::kKeyOrTrue,
                              .mixer = HfMixer::kGatedDeltaNet,
                              .qk_norm = "head",
                              .output_gate = true};

constexpr HfFamily kPhiMoe{.model_type = "phimoe",
                           .expert_size = "intermediate_size",
                           .gate = HfGate::kSparseMixer,
                           .window = HfWindow::kEverywhere,
                           .layer_norm_bias = true};

// The same family under another name.
constexpr HfFamily alias(HfFamily family, std::string_view model_type) {
  family.model_type = model_type;
  return family;
}

constexpr std::array kFamilies{
    HfFamily{.model_type = "deepseek",
             .shared = HfShared::kCount,
             .layers = HfMoeLayers::kAfterDense,
             .reads_scoring_func = true,
             .norm = HfNorm::kKeyOrFalse},
    HfFamily{.model_type = "deepseek_v2",
             .shared = HfShared::kCount,
             .layers = HfMoeLayers::kAfterDense,
             .reads_scoring_func = true,
             .norm = HfNorm::kKeyOrFalse,
             .attention = HfAttention::kMla},
    kDeepSeekV3,
    HfFamily{.model_type = "ernie4_5_moe",
             .shared = HfShared::kCount,
             .shared_key = "moe_num_shared_experts",
             .layers = HfMoeLayers::kIndexRange,
             .selection_bias = true,
             .bias_key = "use_bias",
             .tied = true},
    // The dense MLP that runs beside the experts in every layer counts as shared expert.
    HfFamily{.model_type = "gemma4",
             .shared = HfShared::kSize,
             .shared_key = "intermediate_size",
             .window = HfWindow::kFiveOfSix,
             .qk_norm = "head",
             .tied = true},
    HfFamily{.model_type = "glm4_moe",
             .shared = HfShared::kCount,
             .layers = HfMoeLayers::kAfterDense,
             .gate = HfGate::kSigmoid,
             .norm = HfNorm::kKeyOrTrue,
             .selection_bias = true,
             .bias_on_output = false,
             .qk_norm = "head",
             .qk_norm_key = "use_qk_norm"},
    alias(kDeepSeekV3, "glm4_moe_lite"),
    HfFamily{.model_type = "gpt_oss",
             .expert_size = "intermediate_size",
             .window = HfWindow::kEveryOther,
             .bias = true,
             .sinks = true,
             .expert_bias = true,
             .router_bias = true},
    HfFamily{.model_type = "granitemoe", .expert_size = "intermediate_size"},
    alias(kPhiMoe, "grinmoe"),
    HfFamily{.model_type = "jamba",
             .expert_size = "intermediate_size",
             .layers = HfMoeLayers::kPeriodOffset,
             .norm = HfNorm::kNever,
             .mixer = HfMixer::kMamba},
    HfFamily{.model_type = "jetmoe",
             .expert_size = "intermediate_size",
             .attention = HfAttention::kMoa,
             .tied = true},
    alias(kDeepSeekV3, "kimi_k2"),
    HfFamily{.model_type = "lfm2_moe",
             .layers = HfMoeLayers::kAfterDense,
             .gate = HfGate::kSigmoid,
             .norm = HfNorm::kKeyOrTrue,
             .selection_bias = true,
             .selection_bias_key = "use_expert_bias",
             .mixer = HfMixer::kShortConv,
             .qk_norm = "head",
             .tied = true},
    // Its norm of queries and keys has no weights.
    HfFamily{.model_type = "llama4",
             .expert_size = "intermediate_size",
             .dense_size = "intermediate_size_mlp",
             .shared = HfShared::kSize,
             .shared_key = "intermediate_size",
             .layers = HfMoeLayers::kInterleaved,
             .gate = HfGate::kTop1Sigmoid,
             .window = HfWindow::kChunks},
    HfFamily{.model_type = "llama_moe",
             .expert_size = "intermediate_size",
             .expert_size_is_sum = true,
             .scale_key = "score_scale_factor"},
    HfFamily{.model_type = "minicpm", .expert_size = "intermediate_size", .tied = true},
    HfFamily{.model_type = "mixtral",
             .expert_size = "intermediate_size",
             .window = HfWindow::kEverywhere},
    // Squared ReLU: no gate matrix. A layer is one of mixer, MoE or attention.
    HfFamily{.model_type = "nemotron_h",
             .shared = HfShared::kSize,
             .shared_key = "moe_shared_expert_intermediate_size",
             .layers = HfMoeLayers::kPattern,
             .gate = HfGate::kSigmoid,
             .norm = HfNorm::kKeyOrTrue,
             .selection_bias = true,
             .mixer = HfMixer::kMamba2,
             .expert_matrices = 2},
    HfFamily{.model_type = "olmoe",
             .expert_size = "intermediate_size",
             .norm = HfNorm::kKeyOrFalse,
             .qk_norm = "full"},
    kPhiMoe,
    HfFamily{.model_type = "qwen2_moe",
             .shared = HfShared::kSize,
             .shared_key = "shared_expert_intermediate_size",
             .shared_gate = true,
             .layers = HfMoeLayers::kSparseStep,
             .norm = HfNorm::kKeyOrFalse,
             .window = HfWindow::kUpperLayers,
             .bias_key = "qkv_bias",
             .bias = true,
             .bias_on_output = false},
    alias(kQwen3Next, "qwen3_5_moe"),
    HfFamily{.model_type = "qwen3_moe",
             .layers = HfMoeLayers::kSparseStep,
             .norm = HfNorm::kKeyOrFalse,
             .window = HfWindow::kUpperLayers,
             .qk_norm = "head"},
    kQwen3Next,
    HfFamily{.model_type = "smallthinker",
             .expert_size = "moe_ffn_hidden_size",
             .layers = HfMoeLayers::kLayout,
             .gate = HfGate::kSoftmaxFlag,
             .norm = HfNorm::kKeyOrTrue,
             .window = HfWindow::kLayout},
    HfFamily{.model_type = "xverse",
             .expert_size = "intermediate_size",
             .shared = HfShared::kCount,
             .shared_key = "num_shared_experts"},
};

}  // namespace

const HfFamily* find_hf_family(const std::string& model_type) {
  std::string_view name = model_type;
  constexpr std::string_view kLanguagePart = "_text";
  if (name.ends_with(kLanguagePart)) name.remove_suffix(kLanguagePart.size());
  const auto* found = std::find_if(kFamilies.begin(), kFamilies.end(), [&](const HfFamily& family) {
    return family.model_type == name;
  });
  return found == kFamilies.end() ? nullptr : &*found;
}

std::vector<std::string> hf_model_types() {
  std::vector<std::string> types;
  types.reserve(kFamilies.size());
  for (const HfFamily& family : kFamilies) types.emplace_back(family.model_type);
  std::sort(types.begin(), types.end());
  return types;
}

}  // namespace moesim
