// sim validate: simulations beside measured rows (--targets) or beside the same decode done for
// real
// (--config), and how far off they are.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>
#include <system_error>

#include "api/validate_targets.h"
#include "command.h"
#include "core/errors.h"
#include "core/files.h"
#include "report/target_report.h"
#include "validate_machine.h"

namespace moesim::cli {
namespace {

struct ValidateOptions {
  std::shared_ptr<ValidateMachineCommand> machine;
  ValidateTargetsOptions targets;
  std::string traces;
  std::string out;
  bool markdown = false;
  bool no_band = false;
};

// Names and reasons may quote bytes that are no UTF-8.
std::string json_text(const TargetValidation& validation) {
  return target_json(validation).dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

// Before the simulations, which take minutes.
void check_out(const ValidateOptions& options) {
  if (options.out.empty()) return;
  if (options.out == "-") {
    if (!options.markdown) return;
    throw user_error("--markdown",
                     "expected a file as --out, because both write to standard output, got -");
  }
  const std::filesystem::path out = options.out;
  std::error_code error;
  if (out.has_parent_path() && !std::filesystem::is_directory(out.parent_path(), error)) {
    throw user_error(options.out, "cannot be written: no such folder");
  }
  if (std::filesystem::is_directory(out, error)) {
    throw user_error(options.out, "expected a file, got a directory");
  }
}

void validate_rows(const ValidateOptions& options) {
  ValidateTargetsOptions targets = options.targets;
  if (!options.traces.empty()) targets.traces = options.traces;
  targets.with_band = !options.no_band;
  const bool terminal = isatty(STDERR_FILENO) == 1;
  if (terminal) {
    targets.progress = [](std::size_t done, std::size_t all, const std::string& id) {
      fmt::print(stderr, "\r{:>3} of {}: {:<12}", done + 1, all, id);
    };
  }
  const TargetValidation validation = validate_targets(targets);
  if (terminal) fmt::print(stderr, "\r{:40}\r", "");
  if (!options.out.empty() && options.out != "-") {
    write_file_atomically(options.out, [&](std::ostream& out) { out << json_text(validation); });
  }
  if (options.out == "-") {
    std::cout << json_text(validation);
  } else if (options.markdown) {
    write_target_markdown(validation, std::cout);
  } else {
    write_target_table(validation, std::cout);
  }
}

void validate(const ValidateOptions& options) {
  check_out(options);
  if (options.machine->options.config.empty()) {
    validate_rows(options);
    return;
  }
  ValidateMachineCommand machine = *options.machine;
  machine.options.device = options.targets.device;
  validate_machine(machine, options.out);
}

}  // namespace

void add_validate_command(CLI::App& app) {
  auto options = std::make_shared<ValidateOptions>();
  CLI::App* command =
      app.add_subcommand("validate", "simulations beside measurements, with their errors");
  options->machine = add_validate_machine_options(*command);
  command->add_option("--device", options->targets.device,
                      "device file or name (default: the one that a row or the configuration "
                      "names)");
  command->add_option("--out", options->out, "write the result as JSON (- for standard output)");
  std::vector<CLI::Option*> with_targets;
  const auto of_targets = [&](CLI::Option* option) {
    option->group("With --targets");
    with_targets.push_back(option);
    return option;
  };
  of_targets(command->add_option("--targets", options->targets.targets,
                                 "measured rows (JSON, schema phone-measurements/1)"));
  of_targets(command->add_option(
      "--traces", options->traces,
      "folder that recorded routing is relative to (default: ../raw_traces beside the folder of "
      "the targets)"));
  of_targets(command->add_option("--rows", options->targets.rows,
                                 "ids of the rows to simulate (default: all)"))
      ->delimiter(',');
  of_targets(command->add_flag("--markdown", options->markdown, "print Markdown tables"));
  of_targets(command->add_flag("--no-band", options->no_band,
                               "leave out the band over the uncertainties of the device's values"));
  CLI::Option* const config = command->get_option("--config");
  for (CLI::Option* option : with_targets) {
    option->excludes(config);
    if (option != command->get_option("--targets")) option->needs(command->get_option("--targets"));
  }
  for (CLI::Option* option : command->get_options()) {
    if (option->get_group() == config->get_group() && option != config) option->needs(config);
  }
  command->callback([options] {
    if (options->targets.targets.empty() && options->machine->options.config.empty()) {
      throw user_error("sim validate", "expected --targets or --config, got neither");
    }
    validate(*options);
  });
}

}  // namespace moesim::cli
