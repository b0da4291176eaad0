// Model descriptions as JSON, both ways (docs/models.md).
#include <fmt/format.h>

#include <numeric>

#include "model/description_parts.h"
#include "model/moe_model.h"

namespace moesim {
namespace {

std::vector<std::size_t> last_layers(std::size_t count, std::size_t layers) {
  std::vector<std::size_t> list(count);
  std::iota(list.begin(), list.end(), layers - count);
  return list;
}

std::vector<std::size_t> read_moe_layers(Section& section, std::size_t layers) {
  if (!section.has("moe_layers")) {
    section.know("moe_layers");
    return last_layers(layers, layers);
  }
  const bool listed = section.json().at("moe_layers").is_array();
  return listed ? read_layer_list(section, "moe_layers", layers)
                : last_layers(section.integer("moe_layers", 1, layers), layers);
}

void read_experts(Section& section, MoeModel& model) {
  model.num_experts = section.integer("num_experts", 1, kMostExperts);
  model.num_experts_per_tok = section.integer("num_experts_per_tok", 1, kMostExperts);
  if (model.num_experts_per_tok > model.num_experts) {
    throw section.error("num_experts_per_tok",
                        fmt::format("expected at most num_experts = {}, "
                                    "got {}",
                                    model.num_experts, model.num_experts_per_tok));
  }
  model.moe_intermediate_size = section.integer("moe_intermediate_size", 1, kLargestSize);
  model.expert_matrices = section.integer_or("expert_matrices", 3, 2, 3);
  model.expert_bias = section.boolean_or("expert_bias", false);
  model.router_bias = section.boolean_or("router_bias", false);
  model.shared_expert_intermediate_size =
      section.integer_or("shared_expert_intermediate_size", 0, 0, kLargestSize);
  model.shared_expert_gate = section.boolean_or("shared_expert_gate", false);
  if (model.shared_expert_gate && model.shared_expert_intermediate_size == 0) {
    throw section.error("shared_expert_gate", "needs shared_expert_intermediate_size > 0");
  }
}

void read_other_params(Section& section, MoeModel& model) {
  constexpr std::uint64_t kMost = std::uint64_t{1} << 50;
  model.source = section.string_or("source", "");
  model.other_params = section.integer_or("other_params", 0, 0, kMost);
  if (model.other_params > 0 && model.source.empty()) {
    throw section.error("other_params", "needs source, which says how the number was found");
  }
}

}  // namespace

MoeModel read_model(Section section) {
  MoeModel model;
  model.name = section.string("name");
  model.hidden_size = section.integer("hidden_size", 1, kLargestSize);
  model.num_hidden_layers = section.integer("num_hidden_layers", 1, kMostLayers);
  model.moe_layers = read_moe_layers(section, model.num_hidden_layers);
  read_experts(section, model);
  model.intermediate_size = section.integer_or("intermediate_size", 0, 0, kLargestSize);
  model.vocab_size = section.integer("vocab_size", 1, kLargestVocabulary);
  model.tie_word_embeddings = section.boolean_or("tie_word_embeddings", false);
  model.gate = read_gate(section.object("gate"), model.num_experts, model.num_experts_per_tok);
  model.attention =
      read_attention(section.object("attention"), model.hidden_size, model.num_hidden_layers);
  read_other_params(section, model);
  section.reject_unread_keys();
  return model;
}

Json to_json(const MoeModel& model) {
  const MoeModel defaults;
  Json json = {{"name", model.name},
               {"hidden_size", model.hidden_size},
               {"num_hidden_layers", model.num_hidden_layers}};
  const std::size_t count = model.moe_layers.size();
  if (model.moe_layers == last_layers(count, model.num_hidden_layers)) {
    json["moe_layers"] = count;
  } else {
    json["moe_layers"] = model.moe_layers;
  }
  json["num_experts"] = model.num_experts;
  json["num_experts_per_tok"] = model.num_experts_per_tok;
  json["moe_intermediate_size"] = model.moe_intermediate_size;
  if (model.expert_matrices != defaults.expert_matrices) {
    json["expert_matrices"] = model.expert_matrices;
  }
  if (model.expert_bias) json["expert_bias"] = true;
  if (model.router_bias) json["router_bias"] = true;
  json["shared_expert_intermediate_size"] = model.shared_expert_intermediate_size;
  if (model.shared_expert_gate) json["shared_expert_gate"] = true;
  json["intermediate_size"] = model.intermediate_size;
  json["vocab_size"] = model.vocab_size;
  json["tie_word_embeddings"] = model.tie_word_embeddings;
  json["gate"] = to_json(model.gate);
  json["attention"] = to_json(model.attention);
  if (model.other_params > 0) json["other_params"] = model.other_params;
  json["source"] = model.source;
  return json;
}

namespace {

// On one line, with a space after each comma and colon. A line break in the output of dump(0) is
// never part of a string: there it is escaped.
std::string on_one_line(const Json& json) {
  std::string line;
  for (const char c : json.dump(0)) {
    if (c != '\n') {
      line += c;
    } else if (line.back() == ',') {
      line += ' ';
    }
  }
  return line;
}

}  // namespace

std::string description_text(const MoeModel& model) {
  std::string text;
  const Json json = to_json(model);
  for (const auto& item : json.items()) {
    text += fmt::format("{}  {}: {}", text.empty() ? "{\n" : ",\n", Json(item.key()).dump(),
                        on_one_line(item.value()));
  }
  return text + "\n}\n";
}

}  // namespace moesim
