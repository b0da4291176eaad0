// "attention" of a model description.
#include <fmt/format.h>

#include "model/description_parts.h"

namespace moesim {
namespace {

constexpr std::size_t kMostMoaSets = 256;

void read_heads(Section& section, AttentionShape& a, std::size_t hidden_size) {
  a.num_attention_heads = section.integer("num_attention_heads", 1, kMostHeads);
  a.num_key_value_heads =
      section.integer_or("num_key_value_heads", a.num_attention_heads, 1, kMostHeads);
  if (a.num_attention_heads % a.num_key_value_heads != 0) {
    throw section.error("num_key_value_heads",
                        fmt::format("expected a divisor of num_attention_heads = {}, got {}",
                                    a.num_attention_heads, a.num_key_value_heads));
  }
  if (!section.has("head_dim") && hidden_size % a.num_attention_heads != 0) {
    throw section.error("head_dim", fmt::format("missing key: hidden_size {} is no multiple of "
                                                "num_attention_heads {}",
                                                hidden_size, a.num_attention_heads));
  }
  a.head_dim = section.integer_or("head_dim", hidden_size / a.num_attention_heads, 1, kLargestHead);
}

void read_gqa(Section& section, AttentionShape& a, std::size_t hidden_size) {
  read_heads(section, a, hidden_size);
  a.qkv_bias = section.boolean_or("qkv_bias", false);
  a.output_bias = section.boolean_or("output_bias", false);
  a.qk_norm = section.choice_or("qk_norm", "none", {"none", "head", "full"});
  a.sinks = section.boolean_or("sinks", false);
  a.output_gate = section.boolean_or("output_gate", false);
  a.global_head_dim = section.integer_or("global_head_dim", 0, 1, kLargestHead);
  a.num_global_key_value_heads = section.integer_or("num_global_key_value_heads", 0, 1, kMostHeads);
  a.attention_k_eq_v = section.boolean_or("attention_k_eq_v", false);
}

void read_mla(Section& section, AttentionShape& a) {
  a.num_attention_heads = section.integer("num_attention_heads", 1, kMostHeads);
  a.num_key_value_heads = a.num_attention_heads;
  a.q_lora_rank = section.integer_or("q_lora_rank", 0, 0, kLargestSize);
  a.kv_lora_rank = section.integer("kv_lora_rank", 1, kLargestSize);
  a.qk_nope_head_dim = section.integer("qk_nope_head_dim", 1, kLargestHead);
  a.qk_rope_head_dim = section.integer("qk_rope_head_dim", 1, kLargestHead);
  a.v_head_dim = section.integer("v_head_dim", 1, kLargestHead);
  a.head_dim = a.qk_nope_head_dim + a.qk_rope_head_dim;
}

void read_moa(Section& section, AttentionShape& a, std::size_t hidden_size) {
  read_heads(section, a, hidden_size);
  a.num_experts = section.integer("num_experts", 1, kMostMoaSets);
  a.num_experts_per_tok = section.integer("num_experts_per_tok", 1, a.num_experts);
  if (a.num_attention_heads % a.num_experts_per_tok != 0) {
    throw section.error("num_experts_per_tok",
                        fmt::format("expected a divisor of num_attention_heads = {}, got {}",
                                    a.num_attention_heads, a.num_experts_per_tok));
  }
}

void read_window(Section& section, AttentionShape& a, std::size_t layers) {
  a.sliding_window = section.integer_or("sliding_window", 0, 0, kLargestWindow);
  const bool global = a.global_head_dim > 0 || a.num_global_key_value_heads > 0;
  if ((global || a.attention_k_eq_v) && a.sliding_window == 0) {
    throw section.error("sliding_window", "missing key: the keys of global layers need a window");
  }
  section.know("sliding_layers");
  if (!section.has("sliding_layers")) return;
  if (a.sliding_window == 0) throw section.error("sliding_layers", "needs sliding_window");
  a.sliding_layers = read_layer_list(section, "sliding_layers", layers);
}

}  // namespace

std::vector<std::size_t> read_layer_list(Section& section, const std::string& key,
                                         std::size_t layers) {
  const Json& value = section.raw(key);
  std::vector<std::size_t> list;
  bool right = value.is_array() && !value.empty();
  for (std::size_t i = 0; right && i < value.size(); ++i) {
    const std::int64_t layer = value[i].is_number_integer() ? value[i].get<std::int64_t>() : -1;
    const std::int64_t above = list.empty() ? -1 : static_cast<std::int64_t>(list.back());
    right = layer > above && layer < static_cast<std::int64_t>(layers);
    if (right) list.push_back(static_cast<std::size_t>(layer));
  }
  if (!right) {
    throw section.error(key, fmt::format("expected an increasing list of layers in [0, {}], got {}",
                                         layers - 1, value.dump().substr(0, 60)));
  }
  return list;
}

AttentionShape read_attention(Section section, std::size_t hidden_size, std::size_t layers) {
  AttentionShape attention;
  attention.type = section.choice_or("type", "gqa", {"gqa", "mla", "moa"});
  if (attention.type == "gqa") read_gqa(section, attention, hidden_size);
  if (attention.type == "mla") read_mla(section, attention);
  if (attention.type == "moa") read_moa(section, attention, hidden_size);
  read_window(section, attention, layers);
  section.know("layers");
  if (section.has("layers")) {
    attention.attention_layers = read_layer_list(section, "layers", layers);
  }
  return attention;
}

namespace {

void add_size(Json& json, const char* key, std::size_t value) {
  if (value > 0) json[key] = value;
}

void add_flag(Json& json, const char* key, bool value) {
  if (value) json[key] = true;
}

void add_layers(Json& json, const char* key, const std::vector<std::size_t>& layers) {
  if (!layers.empty()) json[key] = layers;
}

}  // namespace

Json to_json(const AttentionShape& a) {
  Json json = {{"type", a.type}, {"num_attention_heads", a.num_attention_heads}};
  if (a.type == "mla") {
    add_size(json, "q_lora_rank", a.q_lora_rank);
    json["kv_lora_rank"] = a.kv_lora_rank;
    json["qk_nope_head_dim"] = a.qk_nope_head_dim;
    json["qk_rope_head_dim"] = a.qk_rope_head_dim;
    json["v_head_dim"] = a.v_head_dim;
  } else {
    json["num_key_value_heads"] = a.num_key_value_heads;
    json["head_dim"] = a.head_dim;
  }
  add_size(json, "num_experts", a.num_experts);
  add_size(json, "num_experts_per_tok", a.num_experts_per_tok);
  add_flag(json, "qkv_bias", a.qkv_bias);
  add_flag(json, "output_bias", a.output_bias);
  if (a.qk_norm != "none") json["qk_norm"] = a.qk_norm;
  add_flag(json, "sinks", a.sinks);
  add_flag(json, "output_gate", a.output_gate);
  add_size(json, "global_head_dim", a.global_head_dim);
  add_size(json, "num_global_key_value_heads", a.num_global_key_value_heads);
  add_flag(json, "attention_k_eq_v", a.attention_k_eq_v);
  add_size(json, "sliding_window", a.sliding_window);
  add_layers(json, "sliding_layers", a.sliding_layers);
  add_layers(json, "layers", a.attention_layers);
  return json;
}

}  // namespace moesim
