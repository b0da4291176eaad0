// Attention of an imported model, and the mixers that stand in its place in hybrids: their weights
// are counted from the shapes of the reference code and go into other_params.
#include <fmt/format.h>

#include <algorithm>

#include "model/description_parts.h"
#include "model/hf_parts.h"

namespace moesim {
namespace {

// Far above any model; keeps products of a few factors within 64 bits.
constexpr std::uint64_t kLargestFactor = std::uint64_t{1} << 16U;

// Layers whose entry in layer_types is `type`; without the key those for which `usual` is true.
std::vector<std::size_t> layers_of_type(Section& config, const std::string& type,
                                        std::size_t layers,
                                        const std::function<bool(std::size_t)>& usual) {
  if (!config.has("layer_types")) return layers_where(layers, usual);
  const Json& types = per_layer(config, "layer_types", layers);
  return layers_where(layers, [&](std::size_t l) { return types[l] == type; });
}

void import_gqa(Section& config, const HfFamily& family, MoeModel& model) {
  AttentionShape& a = model.attention;
  a.num_attention_heads = config.integer("num_attention_heads", 1);
  a.num_key_value_heads = config.integer_or("num_key_value_heads", a.num_attention_heads, 1);
  a.head_dim = config.integer_or("head_dim", model.hidden_size / a.num_attention_heads, 1);
  a.qkv_bias = config.boolean_or(std::string(family.bias_key), family.bias);
  a.output_bias = a.qkv_bias && family.bias_on_output;
  const bool normed =
      family.qk_norm_key.empty() || config.boolean_or(std::string(family.qk_norm_key), false);
  if (normed) a.qk_norm = family.qk_norm;
  a.output_gate = family.output_gate;
  a.sinks = family.sinks;
}

void import_mla(Section& config, AttentionShape& a) {
  a.type = "mla";
  a.num_attention_heads = config.integer("num_attention_heads", 1);
  a.q_lora_rank = config.integer_or("q_lora_rank", 0);
  a.kv_lora_rank = config.integer("kv_lora_rank", 1);
  a.qk_nope_head_dim = config.integer("qk_nope_head_dim", 1);
  a.qk_rope_head_dim = config.integer("qk_rope_head_dim", 1);
  a.v_head_dim = config.integer("v_head_dim", 1);
  if (config.boolean_or("attention_bias", false)) {
    throw config.error("attention_bias", "biases with multi-head latent attention are unknown");
  }
}

// Sets of query and output heads are as many as the experts, and each has all key-value heads.
void import_moa(Section& config, MoeModel& model) {
  AttentionShape& a = model.attention;
  a.type = "moa";
  a.num_key_value_heads = config.integer("num_key_value_heads", 1);
  a.head_dim = first_size(config, {"kv_channels", "head_dim"});
  a.num_experts = model.num_experts;
  a.num_experts_per_tok = model.num_experts_per_tok;
  a.num_attention_heads = a.num_key_value_heads * a.num_experts_per_tok;
}

std::vector<std::size_t> upper_layers(Section& config, std::size_t layers) {
  if (!config.boolean_or("use_sliding_window", false)) return {};
  const std::size_t first = config.integer_or("max_window_layers", 0);
  return layers_where(layers, [=](std::size_t l) { return l >= first; });
}

std::vector<std::size_t> chunked_layers(Section& config, std::size_t layers) {
  constexpr std::size_t kPeriod = 4;  // Llama 4: each fourth layer is global
  if (!config.has("no_rope_layers") || config.json().at("no_rope_layers").empty()) {
    const std::size_t period = config.integer_or("no_rope_layer_interval", kPeriod, 1);
    return layers_where(layers, [=](std::size_t l) { return (l + 1) % period != 0; });
  }
  const Json& flags = per_layer(config, "no_rope_layers", layers);
  return layers_where(layers, [&](std::size_t l) { return flags[l] == 1; });
}

std::vector<std::size_t> windowed_layers(Section& config, HfWindow rule, std::size_t layers) {
  switch (rule) {
    case HfWindow::kNone:
      return {};
    case HfWindow::kEverywhere:
      return layers_where(layers, [](std::size_t) { return true; });
    case HfWindow::kUpperLayers:
      return upper_layers(config, layers);
    case HfWindow::kEveryOther:
      return layers_of_type(config, "sliding_attention", layers,
                            [](std::size_t l) { return l % 2 == 0; });
    case HfWindow::kFiveOfSix:
      return layers_of_type(config, "sliding_attention", layers,
                            [](std::size_t l) { return l % 6 != 5; });
    case HfWindow::kLayout: {
      if (!config.has("sliding_window_layout")) return {};
      const Json& flags = per_layer(config, "sliding_window_layout", layers);
      return layers_where(layers, [&](std::size_t l) { return flags[l] == 1; });
    }
    case HfWindow::kChunks:
      return chunked_layers(config, layers);
  }
  throw InvariantError("an unknown rule of windows");
}

void import_window(Section& config, const HfFamily& family, MoeModel& model) {
  std::vector<std::size_t> windowed =
      windowed_layers(config, family.window, model.num_hidden_layers);
  if (windowed.empty()) return;
  const char* key = "sliding_window";
  if (family.window == HfWindow::kChunks) key = "attention_chunk_size";
  if (family.window == HfWindow::kLayout) key = "sliding_window_size";
  const std::size_t window = config.integer_or(key, 0);
  const std::size_t positions = config.integer_or("max_position_embeddings", window + 1);
  if (window == 0 || window >= positions) return;  // it never cuts anything off
  AttentionShape& a = model.attention;
  a.sliding_window = window;
  if (windowed.size() < model.num_hidden_layers) a.sliding_layers = std::move(windowed);
  a.global_head_dim = config.integer_or("global_head_dim", 0);
  a.num_global_key_value_heads = config.integer_or("num_global_key_value_heads", 0);
  a.attention_k_eq_v = config.boolean_or("attention_k_eq_v", false);
}

// Selective state space (Gu and Dao, arXiv 2312.00752) as Jamba builds it, with its inner norms.
std::uint64_t mamba_params(Section& config, std::uint64_t hidden) {
  const std::uint64_t inner = config.integer("mamba_expand", 1, kLargestFactor) * hidden;
  const std::uint64_t state = config.integer("mamba_d_state", 1, kLargestFactor);
  const std::uint64_t kernel = config.integer("mamba_d_conv", 1, kLargestFactor);
  const bool automatic = config.has("mamba_dt_rank") && config.raw("mamba_dt_rank") == "auto";
  const std::uint64_t rank =
      automatic ? (hidden + 15) / 16 : config.integer("mamba_dt_rank", 1, kLargestFactor);
  const std::uint64_t in_out = hidden * 2 * inner + inner * hidden;
  const std::uint64_t convolution =
      inner * (kernel + (config.boolean_or("mamba_conv_bias", true) ? 1U : 0U));
  const std::uint64_t step = inner * (rank + 2 * state) + rank * inner + inner;
  const std::uint64_t bias = config.boolean_or("mamba_proj_bias", false) ? 2 * inner + hidden : 0;
  return in_out + convolution + step + inner * state + inner + rank + 2 * state + bias;
}

// Gated short convolution of LFM2: one projection into three, a depthwise kernel, one projection.
std::uint64_t short_conv_params(Section& config, std::uint64_t hidden) {
  const std::uint64_t kernel = config.integer("conv_L_cache", 1, kLargestFactor);
  const std::uint64_t bias = config.boolean_or("conv_bias", false) ? 5 * hidden : 0;
  return hidden * 3 * hidden + hidden * kernel + hidden * hidden + bias;
}

// Gated DeltaNet (Yang et al., arXiv 2412.06464) as Qwen3-Next builds it.
std::uint64_t delta_net_params(Section& config, std::uint64_t hidden) {
  const std::uint64_t value_heads = config.integer("linear_num_value_heads", 1, kLargestFactor);
  const std::uint64_t value_dim = config.integer("linear_value_head_dim", 1, kLargestFactor);
  const std::uint64_t keys = config.integer("linear_num_key_heads", 1, kLargestFactor) *
                             config.integer("linear_key_head_dim", 1, kLargestFactor);
  const std::uint64_t values = value_heads * value_dim;
  const std::uint64_t kernel = config.integer("linear_conv_kernel_dim", 1, kLargestFactor);
  const std::uint64_t projections =
      hidden * (2 * keys + 2 * values) + hidden * 2 * value_heads + values * hidden;
  return projections + (2 * keys + values) * kernel + 2 * value_heads + value_dim;
}

// Mamba-2 (Dao and Gu, arXiv 2405.21060) as Nemotron-H builds it.
std::uint64_t mamba2_params(Section& config, std::uint64_t hidden) {
  const std::uint64_t heads = config.integer("mamba_num_heads", 1, kLargestFactor);
  const std::uint64_t inner = heads * config.integer("mamba_head_dim", 1, kLargestFactor);
  const std::uint64_t states = config.integer("n_groups", 1, kLargestFactor) *
                               config.integer("ssm_state_size", 1, kLargestFactor);
  const std::uint64_t convolved = inner + 2 * states;
  const std::uint64_t kernel = config.integer("conv_kernel", 1, kLargestFactor) +
                               (config.boolean_or("use_conv_bias", true) ? 1U : 0U);
  if (config.boolean_or("mamba_proj_bias", false)) {
    throw config.error("mamba_proj_bias", "biases of Mamba-2 projections are unknown");
  }
  return hidden * (inner + convolved + heads) + convolved * kernel + 3 * heads + inner +
         inner * hidden;
}

struct Mixers {
  std::vector<std::size_t> attention;  // hidden layers
  std::size_t count = 0;               // layers with the other mixer
  std::uint64_t params = 0;            // of one of them
  std::string name;
};

Mixers import_mamba(Section& config, std::size_t layers, std::uint64_t hidden) {
  const std::size_t period = config.integer("attn_layer_period", 1);
  const std::size_t offset = config.integer("attn_layer_offset", 0, period - 1);
  auto attention = layers_where(layers, [=](std::size_t l) { return l % period == offset; });
  const std::size_t count = layers - attention.size();
  return {std::move(attention), count, mamba_params(config, hidden), "Mamba mixers"};
}

Mixers import_short_conv(Section& config, std::size_t layers, std::uint64_t hidden) {
  std::vector<std::size_t> attention;
  if (!config.has("layer_types") && config.has("full_attn_idxs")) {
    attention = read_layer_list(config, "full_attn_idxs", layers);
  } else {
    per_layer(config, "layer_types", layers);
    attention = layers_of_type(config, "full_attention", layers, nullptr);
  }
  const std::size_t count = layers - attention.size();
  return {std::move(attention), count, short_conv_params(config, hidden), "short convolutions"};
}

Mixers import_delta_net(Section& config, std::size_t layers, std::uint64_t hidden) {
  const std::size_t interval = config.integer_or("full_attention_interval", 4, 1);
  auto attention = layers_of_type(config, "full_attention", layers,
                                  [=](std::size_t l) { return (l + 1) % interval == 0; });
  const std::size_t count = layers - attention.size();
  return {std::move(attention), count, delta_net_params(config, hidden), "gated DeltaNet mixers"};
}

Mixers import_mamba2(Section& config, std::size_t layers, std::uint64_t hidden) {
  const std::string pattern = config.string("hybrid_override_pattern");
  const bool known = pattern.find_first_not_of("ME*") == std::string::npos;
  if (!known || pattern.size() != layers) {
    throw config.error("hybrid_override_pattern",
                       fmt::format("expected {} layers, each M (Mamba-2), E (MoE) or * "
                                   "(attention), got {}",
                                   layers, pattern));
  }
  auto attention = layers_where(layers, [&](std::size_t l) { return pattern[l] == '*'; });
  const auto count = std::count(pattern.begin(), pattern.end(), 'M');
  return {std::move(attention), static_cast<std::size_t>(count), mamba2_params(config, hidden),
          "Mamba-2 mixers"};
}

Mixers import_other_mixers(Section& config, const HfFamily& family, const MoeModel& model) {
  const std::size_t layers = model.num_hidden_layers;
  switch (family.mixer) {
    case HfMixer::kAttentionOnly:
      return {};
    case HfMixer::kMamba:
      return import_mamba(config, layers, model.hidden_size);
    case HfMixer::kShortConv:
      return import_short_conv(config, layers, model.hidden_size);
    case HfMixer::kGatedDeltaNet:
      return import_delta_net(config, layers, model.hidden_size);
    case HfMixer::kMamba2:
      return import_mamba2(config, layers, model.hidden_size);
  }
  throw InvariantError("an unknown kind of mixer");
}

void import_layer_norm_biases(Section& config, MoeModel& model) {
  const std::uint64_t norms = 2 * model.num_hidden_layers + 1;
  const bool head = config.boolean_or("lm_head_bias", false);
  model.other_params += norms * model.hidden_size + (head ? model.vocab_size : 0);
  model.source += fmt::format("; other_params: biases of {} LayerNorms{}", norms,
                              head ? " and of the head" : "");
}

}  // namespace

void import_mixers(Section& config, const HfFamily& family, MoeModel& model) {
  if (family.attention == HfAttention::kGqa) import_gqa(config, family, model);
  if (family.attention == HfAttention::kMla) import_mla(config, model.attention);
  if (family.attention == HfAttention::kMoa) import_moa(config, model);
  import_window(config, family, model);
  Mixers mixers = import_other_mixers(config, family, model);
  if (mixers.count > 0) {
    model.attention.attention_layers = std::move(mixers.attention);
    model.other_params = mixers.count * mixers.params;
    model.source += fmt::format("; other_params: {} {} of {} weights", mixers.count, mixers.name,
                                mixers.params);
  }
  if (family.layer_norm_bias) import_layer_norm_biases(config, model);
}

}  // namespace moesim
