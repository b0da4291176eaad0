// The part of `sim validate` that decodes for real.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "api/validate_machine.h"

namespace moesim::cli {

struct ValidateMachineCommand {
  ValidateMachineOptions options;
  std::string dir;
  std::string store;
};

// Adds --config and what belongs to it.
std::shared_ptr<ValidateMachineCommand> add_validate_machine_options(CLI::App& command);

// `out`: a file, "-" or "". Throws InvariantError, after all is written, where the real run and the
// simulation did not do the same work.
void validate_machine(const ValidateMachineCommand& command, const std::string& out);

}  // namespace moesim::cli
