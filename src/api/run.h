// The front door of the library: a configuration in, a result out. The program, sweeps and bindings
// all come through here.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "config/json_file.h"
#include "core/files.h"
#include "engine/run_plan.h"
#include "metrics/run_result.h"
#include "report/run_report.h"
#include "report/timeline.h"

namespace moesim {

// A configuration with its overrides applied.
struct ConfigText {
  Json root;
  std::string shown;               // how messages call it
  std::filesystem::path base_dir;  // what its paths are relative to
  std::vector<std::string> warnings;
  bool is_file = true;  // false: an object of a program, and `shown` names no file
  // A trace that is already open, in the place of the configuration's, and its SHA-256.
  std::shared_ptr<const Trace> trace{};
  std::string trace_sha256{};
};

// Reads a file and applies overrides. Throws UserError.
ConfigText load_config(const std::string& path, const std::vector<std::string>& overrides);
// The same for an object that a program holds. Its paths are relative to `base_dir`.
ConfigText make_config(Json root, const std::string& shown, const std::filesystem::path& base_dir,
                       const std::vector<std::string>& overrides);

// Builds the run that the configuration describes. `share` may be null. Throws UserError.
std::unique_ptr<RunPlan> plan_run(const ConfigText& config, RunShare* share = nullptr);

class SharedRuns;

struct ExecuteOptions {
  bool keep_rows = false;        // RunResult::rows
  Timeline* timeline = nullptr;  // hears of `timeline_tokens` measured tokens, from the first
  std::size_t timeline_tokens = 16;
  bool with_bounds = true;          // false: without Belady and what else replays all accesses
  RunObserver* observer = nullptr;  // hears of everything too
  SharedRuns* shared = nullptr;     // other runs of a sweep
};

// Runs the plan from beginning to end, bounds included.
RunResult execute(RunPlan& plan, const ExecuteOptions& options);

// All of it: plan, execute, and the report with the resolved configuration and the checksums of
// the inputs.
RunReport run(const ConfigText& config, const ExecuteOptions& options);
// The same with the plan that plan_run() made of it.
RunReport run(const ConfigText& config, RunPlan& plan, const ExecuteOptions& options);

// Every file that the run reads, with its checksum: that of `sum` where it is given. Throws
// UserError.
using FileSum = std::function<std::string(const std::filesystem::path&)>;
std::vector<RunReport::Input> inputs_of(const ConfigText& config, const RunPlan& plan,
                                        const FileSum& sum = sha256_of_file);

}  // namespace moesim
