// sim validate --targets: simulations beside measured rows, and how far off they are.
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

namespace moesim::cli {
namespace {

struct ValidateOptions {
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

void validate(const ValidateOptions& options) {
  check_out(options);
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

}  // namespace

void add_validate_command(CLI::App& app) {
  auto options = std::make_shared<ValidateOptions>();
  CLI::App* command =
      app.add_subcommand("validate", "simulations beside measured rows, with their errors");
  command
      ->add_option("--targets", options->targets.targets,
                   "measured rows (JSON, schema phone-measurements/1)")
      ->required();
  command->add_option("--device", options->targets.device,
                      "device file or name for all rows (default: the one that a row names)");
  command->add_option("--traces", options->traces,
                      "folder that recorded routing is relative to (default: ../raw_traces beside "
                      "the folder of the targets)");
  command->add_option("--rows", options->targets.rows, "ids of the rows to simulate (default: all)")
      ->delimiter(',');
  command->add_option("--out", options->out, "write the result as JSON (- for standard output)");
  command->add_flag("--markdown", options->markdown, "print Markdown tables");
  command->add_flag("--no-band", options->no_band,
                    "leave out the band over the uncertainties of the device's values");
  command->callback([options] { validate(*options); });
}

}  // namespace moesim::cli
