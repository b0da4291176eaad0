// Turns the config.json of a Hugging Face model into a model description (docs/models.md).
#pragma once

#include <string>

#include "config/json_file.h"
#include "model/moe_model.h"

namespace moesim {

// `shown` is how messages call the file; its name without folder and suffix becomes the model's.
// Multimodal models: the language part. Left out: vision towers and multi-token prediction.
// Throws UserError for an unknown model_type, a key that is needed and missing, and a feature that
// a description cannot express.
MoeModel import_hf_config(const Json& config, const std::string& shown);

}  // namespace moesim
