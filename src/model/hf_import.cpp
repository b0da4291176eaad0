#include "model/hf_import.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "model/description_parts.h"
#include "model/hf_parts.h"

namespace moesim {

std::string first_key(const Section& config, std::initializer_list<const char*> keys) {
  for (const char* key : keys) {
    if (config.has(key)) return key;
  }
  throw config.error_here(
      fmt::format("missing key: one of {} is needed for model_type {}", fmt::join(keys, ", "),
                  config.has("model_type") ? config.json().at("model_type").dump() : "unknown"));
}

std::size_t first_size(Section& config, std::initializer_list<const char*> keys) {
  return config.integer(first_key(config, keys), 1);
}

const Json& per_layer(Section& config, const std::string& key, std::size_t layers) {
  const Json& list = config.raw(key);
  if (!list.is_array() || list.size() != layers) {
    throw config.error(
        key, fmt::format("expected an array with one entry for each of {} layers", layers));
  }
  return list;
}

std::vector<std::size_t> layers_where(std::size_t layers,
                                      const std::function<bool(std::size_t)>& chosen) {
  std::vector<std::size_t> list;
  for (std::size_t layer = 0; layer < layers; ++layer) {
    if (chosen(layer)) list.push_back(layer);
  }
  return list;
}

namespace {

// The layers that an optional list names; none where it is missing or empty.
std::vector<std::size_t> listed_layers(Section& config, const std::string& key,
                                       std::size_t layers) {
  if (!config.has(key) || config.json().at(key).empty()) return {};
  return read_layer_list(config, key, layers);
}

bool holds(const std::vector<std::size_t>& list, std::size_t value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

std::vector<std::size_t> after_dense(Section& config, std::size_t layers) {
  const std::size_t dense = config.has("num_dense_layers")
                                ? config.integer("num_dense_layers")
                                : config.integer_or("first_k_dense_replace", 0);
  const std::size_t step = config.integer_or("moe_layer_freq", 1, 1);
  return layers_where(layers, [=](std::size_t l) { return l >= dense && l % step == 0; });
}

std::vector<std::size_t> sparse_step(Section& config, std::size_t layers) {
  const std::size_t step = config.integer_or("decoder_sparse_step", 1, 1);
  const std::vector<std::size_t> dense = listed_layers(config, "mlp_only_layers", layers);
  return layers_where(layers,
                      [&](std::size_t l) { return (l + 1) % step == 0 && !holds(dense, l); });
}

std::vector<std::size_t> index_range(Section& config, std::size_t layers) {
  const std::size_t first = config.integer_or("moe_layer_start_index", 0);
  const bool to_the_end =
      !config.has("moe_layer_end_index") || config.json().at("moe_layer_end_index") == -1;
  const std::size_t last = to_the_end ? layers - 1 : config.integer("moe_layer_end_index");
  const std::size_t step = config.integer_or("moe_layer_interval", 1, 1);
  return layers_where(
      layers, [=](std::size_t l) { return l >= first && l <= last && (l + 1) % step == 0; });
}

std::vector<std::size_t> interleaved(Section& config, std::size_t layers) {
  if (config.has("moe_layers")) return listed_layers(config, "moe_layers", layers);
  const std::size_t step = config.integer_or("interleave_moe_layer_step", 1, 1);
  return layers_where(layers, [=](std::size_t l) { return (l + 1) % step == 0; });
}

std::vector<std::size_t> import_moe_layers(Section& config, HfMoeLayers rule, std::size_t layers) {
  switch (rule) {
    case HfMoeLayers::kAll:
      return layers_where(layers, [](std::size_t) { return true; });
    case HfMoeLayers::kAfterDense:
      return after_dense(config, layers);
    case HfMoeLayers::kSparseStep:
      return sparse_step(config, layers);
    case HfMoeLayers::kPeriodOffset: {
      const std::size_t period = config.integer("expert_layer_period", 1);
      const std::size_t offset = config.integer("expert_layer_offset", 0, period - 1);
      return layers_where(layers, [=](std::size_t l) { return l % period == offset; });
    }
    case HfMoeLayers::kIndexRange:
      return index_range(config, layers);
    case HfMoeLayers::kInterleaved:
      return interleaved(config, layers);
    case HfMoeLayers::kLayout: {
      const Json& flags = per_layer(config, "moe_layer_layout", layers);
      return layers_where(layers, [&](std::size_t l) { return flags[l] == 1; });
    }
    case HfMoeLayers::kPattern: {
      const std::string pattern = config.string("hybrid_override_pattern");
      return layers_where(std::min(layers, pattern.size()),
                          [&](std::size_t l) { return pattern[l] == 'E'; });
    }
  }
  throw InvariantError("an unknown rule of MoE layers");
}

void import_experts(Section& config, const HfFamily& family, MoeModel& model) {
  model.num_experts = first_size(config, {"num_experts", "num_local_experts", "n_routed_experts",
                                          "moe_num_experts", "moe_num_primary_experts"});
  model.num_experts_per_tok =
      first_size(config, {"num_experts_per_tok", "num_experts_per_token", "experts_per_token",
                          "moe_k", "moe_topk", "moe_top_k", "num_selects", "top_k_experts",
                          "moe_num_active_primary_experts"});
  const std::string size_key(family.expert_size);
  model.moe_intermediate_size =
      size_key == "intermediate_size"
          ? first_size(config, {"intermediate_size", "ffn_hidden_size"})
          : first_size(config, {size_key.c_str(), "expert_intermediate_size"});
  if (family.expert_size_is_sum) model.moe_intermediate_size /= model.num_experts;
  model.expert_matrices = family.expert_matrices;
  model.expert_bias = family.expert_bias;
  model.router_bias = family.router_bias;
}

void import_shared_experts(Section& config, const HfFamily& family, MoeModel& model) {
  if (family.shared == HfShared::kNone) return;
  const std::size_t value = config.integer_or(std::string(family.shared_key), 0);
  model.shared_expert_intermediate_size =
      family.shared == HfShared::kCount ? value * model.moe_intermediate_size : value;
  model.shared_expert_gate = family.shared_gate && value > 0;
}

bool is_tied(Section& whole, Section& language, const HfFamily& family) {
  for (Section* config : {&language, &whole}) {
    for (const char* key : {"tie_word_embeddings", "tie_embedding"}) {
      if (config->has(key)) return config->boolean(key);
    }
  }
  return family.tied;
}

const HfFamily& family_of(Section& whole, Section& language) {
  Section& named = language.has("model_type") ? language : whole;
  const std::string type = named.string("model_type");
  const HfFamily* family = find_hf_family(type);
  if (family == nullptr) {
    throw named.error("model_type", unknown_name_message(type, hf_model_types()));
  }
  return *family;
}

}  // namespace

MoeModel import_hf_config(const Json& config, const std::string& shown) {
  Section whole(config, shown, "");
  Section language = whole.has("text_config") ? whole.object("text_config") : whole;
  const HfFamily& family = family_of(whole, language);
  const std::filesystem::path file(shown);
  MoeModel model;
  model.name = file.stem().string();
  model.source = fmt::format("imported from {} (Hugging Face, model_type {})",
                             file.filename().string(), family.model_type);
  model.hidden_size = language.integer("hidden_size", 1, kLargestSize);
  model.num_hidden_layers = language.integer("num_hidden_layers", 1, kMostLayers);
  model.vocab_size = language.integer("vocab_size", 1);
  model.moe_layers = import_moe_layers(language, family.layers, model.num_hidden_layers);
  if (model.moe_layers.empty()) throw language.error_here("no layer has routed experts");
  import_experts(language, family, model);
  import_shared_experts(language, family, model);
  const bool has_dense = model.moe_layers.size() < model.num_hidden_layers;
  if (has_dense && family.layers != HfMoeLayers::kPattern) {
    model.intermediate_size = language.integer(std::string(family.dense_size), 1);
  }
  model.tie_word_embeddings = is_tied(whole, language, family);
  import_gate(language, family, model);
  import_mixers(language, family, model);
  // Reading it back applies every check of a description.
  return read_model(Section(to_json(model), shown, ""));
}

}  // namespace moesim
