#include "api/run.h"

#include <algorithm>
#include <utility>

#include "api/overrides.h"
#include "api/shared_runs.h"
#include "core/files.h"
#include "engine/hit_bounds.h"
#include "engine/replay.h"
#include "metrics/run_metrics.h"

namespace moesim {
namespace {

// Bounds replay every access several times more. Beyond this many they are left out, with a
// warning.
constexpr std::uint64_t kMostAccessesForBounds = 200'000'000;

double hit_rate(const CacheCounts& counts) {
  return counts.accesses == 0
             ? 0.0
             : static_cast<double>(counts.hits) / static_cast<double>(counts.accesses);
}

OfflineRates measure_offline(const RunPlan& plan, const AccessLog& log) {
  const CacheCounts belady = plan.replay_offline("belady", log);
  const CacheCounts bypass = plan.replay_offline("min_bypass", log);
  const HitBounds bounds = hit_bounds(log, plan.cache_options());
  const auto rate = [&](std::uint64_t hits) {
    CacheCounts counts = bypass;  // the accesses are the same
    counts.hits = hits;
    return hit_rate(counts);
  };
  OfflineRates rates;
  rates.belady = hit_rate(belady);
  rates.others.min_bypass = hit_rate(bypass);
  rates.others.upper_bound = rate(bounds.upper);
  rates.others.lower_bound = rate(std::max({bounds.lower, belady.hits, bypass.hits}));
  return rates;
}

// `recorded`: the executed accesses where they were known only after the run, else null.
void add_bounds(const RunPlan& plan, const AccessLog* recorded, SharedRuns* shared,
                RunResult& result) {
  const std::string caveat = plan.belady_caveat();
  auto& warnings = result.warnings;
  if (!caveat.empty() && std::find(warnings.begin(), warnings.end(), caveat) == warnings.end()) {
    warnings.push_back(caveat);
  }
  const auto measure = [&](bool native) {
    const auto of_plan = [&] {
      return measure_offline(plan, native ? *plan.native_accesses() : *plan.executed_accesses());
    };
    if (shared == nullptr) return of_plan();
    return shared->offline(plan, native ? plan.native_key() : plan.executed_key(), of_plan);
  };
  const OfflineRates of_native = measure(true);
  result.offline = of_native.others;
  result.belady_hit_rate = of_native.belady;
  OfflineRates of_executed = of_native;
  if (!plan.is_native()) {
    of_executed = recorded != nullptr ? measure_offline(plan, *recorded) : measure(false);
  }
  result.offline_executed = of_executed.others;
  result.belady_executed_hit_rate = of_executed.belady;
}

// Runs the passes in time, or without where the plan has no device. Spans are reported for the
// passes of the timeline only.
class Runner {
 public:
  explicit Runner(RunPlan& plan) : plan_(plan), replay_(plan.session(), plan.schedule()) {}

  void run(std::size_t first, std::size_t end, RunObserver& observer, bool spans) {
    if (plan_.simulation() != nullptr) {
      plan_.simulation()->run(first, end, &observer, spans);
    } else {
      replay_.run(first, end, &observer);
    }
  }

 private:
  RunPlan& plan_;
  Replay replay_;
};

// The passes from the first measured token on, as many as the timeline takes.
std::pair<std::size_t, std::size_t> timeline_passes(const TokenSchedule& schedule,
                                                    std::size_t tokens) {
  const auto& passes = schedule.passes;
  const auto first =
      std::find_if(passes.begin(), passes.end(), [](const Pass& p) { return p.measured; });
  const auto begin = static_cast<std::size_t>(first - passes.begin());
  return {begin, std::min(passes.size(), begin + tokens)};
}

void run_passes(RunPlan& plan, const ExecuteOptions& options, ObserverList& observers) {
  Runner runner(plan);
  const std::size_t all = plan.schedule().passes.size();
  if (options.timeline == nullptr || plan.simulation() == nullptr) {
    runner.run(0, all, observers, false);
  } else {
    if (plan.config().model) options.timeline->name_layers(plan.config().model->moe_layers);
    options.timeline->name_tiers(plan.tier_names());
    const auto range = timeline_passes(plan.schedule(), options.timeline_tokens);
    runner.run(0, range.first, observers, false);
    ObserverList with_timeline = observers;
    with_timeline.add(*options.timeline);
    runner.run(range.first, range.second, with_timeline, true);
    runner.run(range.second, all, observers, false);
  }
  if (plan.simulation() != nullptr) plan.simulation()->drain();
}

}  // namespace

ConfigText load_config(const std::string& path, const std::vector<std::string>& overrides) {
  ConfigText config = make_config(read_json_file(path, path), path,
                                  std::filesystem::path(path).parent_path(), overrides);
  config.is_file = true;
  return config;
}

ConfigText make_config(Json root, const std::string& shown, const std::filesystem::path& base_dir,
                       const std::vector<std::string>& overrides) {
  ConfigText config{std::move(root), shown, base_dir, {}};
  config.is_file = false;
  if (!config.root.is_object()) {
    throw user_error(shown, "expected an object, got " + config.root.dump());
  }
  apply_overrides(config.root, overrides, config.warnings);
  return config;
}

std::unique_ptr<RunPlan> plan_run(const ConfigText& config, RunShare* share) {
  return std::make_unique<RunPlan>(
      read_run_config(config.root, config.shown, config.base_dir, config.trace), share);
}

RunResult execute(RunPlan& plan, const ExecuteOptions& options) {
  const std::size_t events = plan.schedule().passes.size() * plan.trace().shape().layers;
  const std::uint64_t accesses = events * plan.session().max_visit_experts();
  const bool with_bounds = options.with_bounds && accesses <= kMostAccessesForBounds;
  const bool record = with_bounds && !plan.future_known();
  AccessLog log(plan.trace().shape(), record ? events : 0, record ? accesses : 0);
  const auto run_it = [&] {
    RunMetrics metrics(plan, options.keep_rows);
    ObserverList observers;
    observers.add(metrics);
    AccessRecorder recorder(log, plan.config().cache.reset);
    if (record) observers.add(recorder);
    if (options.observer != nullptr) observers.add(*options.observer);
    run_passes(plan, options, observers);
    return metrics.result();
  };
  const bool derives = options.shared != nullptr && SharedRuns::can_derive(plan) &&
                       !options.keep_rows && options.timeline == nullptr &&
                       options.observer == nullptr;
  RunResult result = derives ? options.shared->derive(plan, run_it) : run_it();
  if (with_bounds) {
    if (record) log.finish();
    add_bounds(plan, record ? &log : nullptr, options.shared, result);
  } else if (options.with_bounds) {
    result.warnings.push_back("the Belady bounds were left out: too many accesses");
  }
  return result;
}

RunReport run(const ConfigText& config, const ExecuteOptions& options) {
  SharedRuns* shared = options.shared;
  const auto plan = plan_run(config, shared != nullptr ? &shared->share() : nullptr);
  return run(config, *plan, options);
}

RunReport run(const ConfigText& config, RunPlan& plan, const ExecuteOptions& options) {
  SharedRuns* shared = options.shared;
  RunReport report;
  report.result = execute(plan, options);
  auto& warnings = report.result.warnings;
  warnings.insert(warnings.begin(), config.warnings.begin(), config.warnings.end());
  report.facts = describe_run(plan);
  report.inputs =
      shared != nullptr ? inputs_of(config, plan, shared->file_sum()) : inputs_of(config, plan);
  return report;
}

std::vector<RunReport::Input> inputs_of(const ConfigText& config, const RunPlan& plan,
                                        const FileSum& sum) {
  std::vector<RunReport::Input> inputs;
  if (config.is_file) inputs.push_back({config.shown, sum(config.shown)});
  inputs.push_back({plan.config().trace_shown,
                    config.trace ? config.trace_sha256 : sum(plan.config().trace_path)});
  for (const RunConfig::Input& input : plan.config().inputs) {
    inputs.push_back({input.shown, sum(input.path)});
  }
  return inputs;
}

}  // namespace moesim
