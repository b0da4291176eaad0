// "gate" of a model description. The function and its keys decide the code: a plain sigmoid (no
// bias, one group, factor 1, renormalised) is E, any other sigmoid D; both select and weigh alike.
#include <fmt/format.h>

#include "model/description_parts.h"

namespace moesim {
namespace {

const char* function_of(GateCode code) {
  switch (code) {
    case GateCode::kA:
    case GateCode::kB:
    case GateCode::kC:
      return "softmax";
    case GateCode::kD:
    case GateCode::kE:
      return "sigmoid";
    case GateCode::kF:
      return "sparsemixer";
    case GateCode::kG:
      return "top1_sigmoid";
  }
  throw InvariantError("a gate code outside A to G");
}

void require_k(const Section& section, const std::string& function, std::size_t k,
               std::size_t fixed) {
  if (k == fixed) return;
  throw section.error(
      "function", fmt::format("{} selects num_experts_per_tok = {}, got {}", function, fixed, k));
}

void read_softmax(Section& section, GateSpec& gate) {
  gate.norm_topk_prob = section.boolean_or("norm_topk_prob", false);
  gate.code = gate.norm_topk_prob ? GateCode::kA : GateCode::kB;
}

void read_groups(Section& section, GateSpec& gate, std::size_t experts, std::size_t k) {
  gate.n_group = section.integer_or("n_group", 1, 1, experts);
  gate.topk_group = section.integer_or("topk_group", gate.n_group, 1, experts);
  if (gate.topk_group > gate.n_group) {
    throw section.error("topk_group", fmt::format("expected at most n_group = {}, got {}",
                                                  gate.n_group, gate.topk_group));
  }
  if (gate.n_group == 1) return;
  const std::size_t members = experts / gate.n_group;
  // A group's score is the sum of its two best experts.
  if (experts % gate.n_group != 0 || members < 2) {
    throw section.error("n_group", fmt::format("expected equal groups of two or more of "
                                               "num_experts = {}, got {} groups",
                                               experts, gate.n_group));
  }
  if (members * gate.topk_group < k) {
    throw section.error("topk_group",
                        fmt::format("{} groups of {} experts hold fewer than num_experts_per_tok "
                                    "= {}",
                                    gate.topk_group, members, k));
  }
}

void read_sigmoid(Section& section, GateSpec& gate, std::size_t experts, std::size_t k) {
  gate.norm_topk_prob = section.boolean_or("norm_topk_prob", true);
  read_groups(section, gate, experts, k);
  const bool plain = !gate.selection_bias && gate.n_group == 1 && gate.norm_topk_prob &&
                     gate.routed_scaling_factor == 1.0;
  gate.code = plain ? GateCode::kE : GateCode::kD;
}

}  // namespace

GateSpec read_gate(Section section, std::size_t experts, std::size_t k) {
  GateSpec gate;
  const std::string function =
      section.choice("function", {"softmax", "sigmoid", "sparsemixer", "top1_sigmoid"});
  if (function == "sparsemixer") {
    require_k(section, function, k, 2);
    gate.code = GateCode::kF;
    return gate;
  }
  if (function == "top1_sigmoid") {
    require_k(section, function, k, 1);
    gate.code = GateCode::kG;
    return gate;
  }
  gate.selection_bias = section.boolean_or("selection_bias", false);
  gate.routed_scaling_factor = section.number_or("routed_scaling_factor", 1.0, kPositive);
  if (function == "softmax") {
    read_softmax(section, gate);
  } else {
    read_sigmoid(section, gate, experts, k);
  }
  return gate;
}

Json to_json(const GateSpec& gate) {
  const std::string function = function_of(gate.code);
  Json json = {{"function", function}};
  if (function == "softmax") json["norm_topk_prob"] = gate.code != GateCode::kB;
  if (gate.code == GateCode::kD && !gate.norm_topk_prob) json["norm_topk_prob"] = false;
  if (gate.n_group > 1) {
    json["n_group"] = gate.n_group;
    json["topk_group"] = gate.topk_group;
  }
  if (gate.routed_scaling_factor != 1.0) json["routed_scaling_factor"] = gate.routed_scaling_factor;
  if (gate.selection_bias) json["selection_bias"] = true;
  return json;
}

}  // namespace moesim
