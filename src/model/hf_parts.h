// The steps of an import. Each reads its keys of config.json into the model; unread keys are fine.
#pragma once

#include <cstddef>
#include <functional>
#include <initializer_list>
#include <string>
#include <vector>

#include "config/section.h"
#include "model/hf_families.h"
#include "model/moe_model.h"

namespace moesim {

// The first of `keys` that the config has; families and versions name one quantity differently.
// Throws UserError where it has none.
std::string first_key(const Section& config, std::initializer_list<const char*> keys);
std::size_t first_size(Section& config, std::initializer_list<const char*> keys);

// One entry per hidden layer of an array such as layer_types. Throws UserError on another length.
const Json& per_layer(Section& config, const std::string& key, std::size_t layers);

// The hidden layers for which `chosen` is true.
std::vector<std::size_t> layers_where(std::size_t layers,
                                      const std::function<bool(std::size_t)>& chosen);

// Needs model.num_experts and num_experts_per_tok.
void import_gate(Section& config, const HfFamily& family, MoeModel& model);
// Attention, and the mixers of other layers as other_params with an addition to model.source.
// Needs hidden_size and num_hidden_layers.
void import_mixers(Section& config, const HfFamily& family, MoeModel& model);

}  // namespace moesim
