// `sim run`, and `sim --config` for short: one run, a summary or a result document.
#include <fmt/format.h>

#include <iostream>
#include <memory>
#include <set>

#include "api/run.h"
#include "command.h"
#include "core/files.h"

namespace moesim::cli {
namespace {

struct RunArguments {
  std::string config;
  std::vector<std::string> overrides;
  std::string json;
  std::string tokens_csv;
  std::string timeline;
  std::size_t timeline_tokens = 16;
  bool print_config = false;
};

// The files of one run: all of them or none.
class Outputs {
 public:
  void stage(const std::string& path, const std::function<void(std::ostream&)>& write) {
    if (!paths_.insert(std::filesystem::absolute(path).lexically_normal()).second) {
      throw user_error(path, "expected a file of its own for each output, got it twice");
    }
    files_.push_back(std::make_unique<StagedFile>(path, write));
  }
  void commit() {
    for (const auto& file : files_) file->commit();
  }

 private:
  std::set<std::filesystem::path> paths_;
  std::vector<std::unique_ptr<StagedFile>> files_;
};

void print_resolved(const ConfigText& config) {
  const auto plan = plan_run(config);
  std::cout << describe_run(*plan).config.dump(2) << "\n";
  for (const std::string& warning : config.warnings) {
    std::cerr << "sim: warning: " << warning << "\n";
  }
}

void refuse_dash(const char* option, const std::string& path) {
  if (path == "-") throw user_error(option, "expected a file, got -: only --json takes it");
}

void run_once(const RunArguments& arguments) {
  refuse_dash("--tokens-csv", arguments.tokens_csv);
  refuse_dash("--timeline", arguments.timeline);
  const ConfigText config = load_config(arguments.config, arguments.overrides);
  if (arguments.print_config) {
    if (!(arguments.json + arguments.tokens_csv + arguments.timeline).empty()) {
      throw user_error("--print-config",
                       "expected no --json, --tokens-csv or --timeline beside it, "
                       "because nothing is run");
    }
    return print_resolved(config);
  }
  Timeline timeline;
  ExecuteOptions options;
  options.keep_rows = !arguments.tokens_csv.empty();
  options.timeline = arguments.timeline.empty() ? nullptr : &timeline;
  options.timeline_tokens = arguments.timeline_tokens;
  if (options.timeline != nullptr && config.root.value("device", Json()).is_null()) {
    throw user_error("--timeline",
                     "expected a configuration with a device: without one there is no "
                     "time to draw");
  }
  const RunReport report = run(config, options);
  const bool json_on_stdout = arguments.json == "-";
  const std::string json =
      result_json(report).dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  Outputs outputs;
  if (!arguments.tokens_csv.empty()) {
    outputs.stage(arguments.tokens_csv,
                  [&](std::ostream& out) { write_tokens_csv(report.result, out); });
  }
  if (options.timeline != nullptr) {
    outputs.stage(arguments.timeline, [&](std::ostream& out) { timeline.write(out); });
  }
  if (!arguments.json.empty() && !json_on_stdout) {
    outputs.stage(arguments.json, [&](std::ostream& out) { out << json; });
  }
  outputs.commit();
  if (json_on_stdout) {
    std::cout << json;
    for (const std::string& warning : report.result.warnings) {
      std::cerr << "sim: warning: " << warning << "\n";
    }
  } else {
    write_summary(report, std::cout);
  }
}

std::string not_empty(const std::string& file) {
  return file.empty() ? "expected a file, got an empty name" : "";
}

void add_options(CLI::App& target, RunArguments& arguments) {
  target
      .add_option("--config", arguments.config, "the configuration, a JSON file (docs/config.md)")
      ->type_name("FILE");
  target
      .add_option("--set", arguments.overrides,
                  "override one key of the configuration, as in --set /cache/capacity_mib=2000; "
                  "repeat for more")
      ->type_name("PTR=VALUE")
      ->allow_extra_args(false);
  target.add_option("--json", arguments.json, "write the result as JSON; - for standard output")
      ->type_name("FILE")
      ->check(not_empty, "");
  target.add_option("--tokens-csv", arguments.tokens_csv, "write one row per measured token")
      ->type_name("FILE")
      ->check(not_empty, "");
  target
      .add_option("--timeline", arguments.timeline,
                  "write a Chrome/Perfetto timeline of the first measured tokens")
      ->type_name("FILE")
      ->check(not_empty, "");
  target
      .add_option("--timeline-tokens", arguments.timeline_tokens,
                  "how many tokens the timeline shows")
      ->capture_default_str()
      ->check(CLI::Range(1, 1'000'000));
  target.add_flag("--print-config", arguments.print_config,
                  "print the configuration with every key in force, and stop");
}

void run_checked(const RunArguments& arguments) {
  if (arguments.config.empty()) {
    throw user_error("sim run", "expected --config FILE after run, got none");
  }
  run_once(arguments);
}

}  // namespace

void add_run_command(CLI::App& app) {
  auto arguments = std::make_shared<RunArguments>();
  CLI::App* run = app.add_subcommand("run", "simulate one configuration");
  add_options(*run, *arguments);
  run->callback([arguments] { run_checked(*arguments); });

  auto shorthand = std::make_shared<RunArguments>();
  add_options(app, *shorthand);
  app.callback([&app, shorthand] {
    if (!app.get_subcommands().empty()) return;
    if (shorthand->config.empty()) {
      throw user_error("sim", "expected --config FILE or a command (see sim --help)");
    }
    run_once(*shorthand);
  });
}

}  // namespace moesim::cli
