#include "validate_machine.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <iostream>
#include <system_error>

#include "core/errors.h"
#include "core/files.h"

namespace moesim::cli {
namespace {

constexpr const char* kGroup = "With --config";

// One line that changes on a terminal, else a line for each thing that begins.
class Progress {
 public:
  ~Progress() {
    if (terminal_) fmt::print(stderr, "\r{:50}\r", "");
  }
  void operator()(const std::string& what, double share) {
    const auto percent = static_cast<int>(share * 100);
    if (what == last_ && (!terminal_ || percent == percent_)) return;
    if (terminal_) {
      fmt::print(stderr, "\r{:<40}{:>4} %", what, percent);
    } else {
      fmt::print(stderr, "{}\n", what);
    }
    last_ = what;
    percent_ = percent;
  }

 private:
  bool terminal_ = isatty(STDERR_FILENO) == 1;
  std::string last_;
  int percent_ = -1;
};

// Where the experts go: the folder of the output, which the user can write to.
std::filesystem::path store_folder(const ValidateMachineCommand& command, const std::string& out) {
  std::filesystem::path folder = command.dir;
  if (folder.empty() && !out.empty() && out != "-") {
    folder = std::filesystem::path(out).parent_path();
  }
  if (folder.empty()) folder = ".";
  std::error_code error;
  if (!std::filesystem::is_directory(folder, error)) {
    throw user_error(folder.string(), "expected a folder, got nothing: no such folder");
  }
  return folder;
}

}  // namespace

std::shared_ptr<ValidateMachineCommand> add_validate_machine_options(CLI::App& command) {
  auto validate = std::make_shared<ValidateMachineCommand>();
  ValidateMachineOptions& options = validate->options;
  command
      .add_option("--config", options.config,
                  "decode this configuration for real and simulated (configs/validate.json)")
      ->group(kGroup);
  command.add_option("--set", options.overrides, "override a key: /cache/capacity_experts=8, ...")
      ->allow_extra_args(false)
      ->group(kGroup);
  command
      .add_option("--dir", validate->dir,
                  "folder for the file of experts, which is removed (default: that of --out)")
      ->group(kGroup);
  command
      .add_option("--store", validate->store,
                  "file of experts to use; written where it is not there, and kept")
      ->group(kGroup);
  command.add_option("--repeats", options.repeats, "real runs (default 3)")
      ->check(CLI::Range(1, 100))
      ->group(kGroup);
  command
      .add_option("--reference-tokens", options.reference_tokens,
                  "tokens that are compared with the reference (default: all)")
      ->check(CLI::Range(1, 1000000))
      ->group(kGroup);
  command.add_option("--max-disk-gib", options.max_disk_gib, "refuse to take more (default 8)")
      ->check(CLI::PositiveNumber)
      ->group(kGroup);
  command.add_option("--max-memory-gib", options.max_memory_gib, "refuse to take more (default 4)")
      ->check(CLI::PositiveNumber)
      ->group(kGroup);
  command
      .add_flag("--buffered", options.buffered,
                "read through the page cache, where there are no direct reads")
      ->group(kGroup);
  command.add_option("--seed", options.seed, "of the experts' weights (default 1)")->group(kGroup);
  return validate;
}

void validate_machine(const ValidateMachineCommand& command, const std::string& out) {
  ValidateMachineOptions options = command.options;
  options.dir = store_folder(command, out);
  if (!command.store.empty()) options.store = command.store;
  MachineReport report;
  {
    Progress progress;
    options.progress = [&progress](const std::string& what, double share) {
      progress(what, share);
    };
    report = moesim::validate_machine(options);
  }
  const auto json = [&] {
    return machine_json(report).dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  };
  if (!out.empty() && out != "-") {
    write_file_atomically(out, [&](std::ostream& file) { file << json(); });
  }
  if (out == "-") {
    std::cout << json();
  } else {
    write_machine_table(report, std::cout);
  }
  const MachineValidation& validation = report.validation;
  if (!validation.outputs_match) {
    throw InvariantError("the outputs of the real decode loop are not the reference's: " +
                         validation.output_difference);
  }
  if (!validation.count_difference.empty()) {
    throw InvariantError("the real decode loop and the simulation did not do the same: " +
                         validation.count_difference);
  }
}

}  // namespace moesim::cli
