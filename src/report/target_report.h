// What a validation against measured rows came to, for scripts and for people.
#pragma once

#include <iosfwd>

#include "calibration/target_scores.h"
#include "config/json_file.h"

namespace moesim {

// The document of the contract, section 4 (schema moesim.validation/1).
Json target_json(const TargetValidation& validation);

// Measured and simulated side by side, contrasts, and a summary, for a terminal.
void write_target_table(const TargetValidation& validation, std::ostream& out);

// The same as Markdown tables.
void write_target_markdown(const TargetValidation& validation, std::ostream& out);

}  // namespace moesim
