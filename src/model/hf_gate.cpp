// The gate of an imported model. The code itself follows when the description is read back.
#include "model/hf_parts.h"

namespace moesim {
namespace {

bool renormalises(Section& config, HfNorm norm) {
  switch (norm) {
    case HfNorm::kAlways:
      return true;
    case HfNorm::kNever:
      return false;
    case HfNorm::kKeyOrTrue:
      return config.boolean_or("norm_topk_prob", true);
    case HfNorm::kKeyOrFalse:
      return config.boolean_or("norm_topk_prob", false);
  }
  throw InvariantError("an unknown rule of renormalisation");
}

bool is_sigmoid(Section& config, const HfFamily& family) {
  if (family.gate == HfGate::kSoftmaxFlag) {
    return !config.boolean_or("moe_primary_router_apply_softmax", false);
  }
  const bool sigmoid = family.gate == HfGate::kSigmoid;
  if (!family.reads_scoring_func) return sigmoid;
  return config.choice_or("scoring_func", sigmoid ? "sigmoid" : "softmax",
                          {"softmax", "sigmoid"}) == "sigmoid";
}

bool has_selection_bias(Section& config, const HfFamily& family) {
  if (!family.selection_bias_key.empty()) {
    return config.boolean_or(std::string(family.selection_bias_key), family.selection_bias);
  }
  if (!family.reads_scoring_func) return family.selection_bias;
  return config.choice_or("topk_method", family.selection_bias ? "noaux_tc" : "greedy",
                          {"greedy", "group_limited_greedy", "noaux_tc"}) == "noaux_tc";
}

void import_groups(Section& config, GateSpec& gate, bool sigmoid) {
  gate.n_group = config.integer_or("n_group", 1, 1);
  gate.topk_group = config.integer_or("topk_group", gate.n_group, 1);
  const bool ignored = config.string_or("topk_method", "") == "greedy";
  if (ignored) gate.n_group = gate.topk_group = 1;
  if (gate.n_group > 1 && !sigmoid) {
    throw config.error("n_group",
                       "group-limited selection with a softmax is unknown; known: with a sigmoid");
  }
}

}  // namespace

void import_gate(Section& config, const HfFamily& family, MoeModel& model) {
  GateSpec& gate = model.gate;
  if (family.gate == HfGate::kSparseMixer || family.gate == HfGate::kTop1Sigmoid) {
    gate.code = family.gate == HfGate::kSparseMixer ? GateCode::kF : GateCode::kG;
    return;
  }
  const bool sigmoid = is_sigmoid(config, family);
  gate.norm_topk_prob = renormalises(config, family.norm);
  gate.selection_bias = has_selection_bias(config, family);
  gate.routed_scaling_factor = config.number_or(std::string(family.scale_key), 1.0, kPositive);
  import_groups(config, gate, sigmoid);
  if (sigmoid) {
    gate.code = GateCode::kD;
  } else {
    gate.code = gate.norm_topk_prob ? GateCode::kA : GateCode::kB;
  }
}

}  // namespace moesim
