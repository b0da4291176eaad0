#include "api/run.h"

#include <algorithm>
#include <utility>

#include "api/overrides.h"
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

// Fills in the rates of caches that know the future and returns Belady's.
double measure_offline(const RunPlan& plan, const AccessLog& log, OfflineHitRates& rates) {
  const CacheCounts belady = plan.replay_offline("belady", log);
  const CacheCounts bypass = plan.replay_offline("min_bypass", log);
  const HitBounds bounds = hit_bounds(log, plan.cache_options());
  const auto rate = [&](std::uint64_t hits) {
    CacheCounts counts = bypass;  // the accesses are the same
    counts.hits = hits;
    return hit_rate(counts);
  };
  rates.min_bypass = hit_rate(bypass);
  rates.upper_bound = rate(bounds.upper);
  rates.lower_bound = rate(std::max({bounds.lower, belady.hits, bypass.hits}));
  return hit_rate(belady);
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
  ConfigText config;
  config.shown = path;
  config.root = read_json_file(path, path);
  config.base_dir = std::filesystem::path(path).parent_path();
  if (!config.root.is_object())
    throw user_error(path, "expected an object, got " + config.root.dump());
  apply_overrides(config.root, overrides, config.warnings);
  return config;
}

std::unique_ptr<RunPlan> plan_run(const ConfigText& config) {
  return std::make_unique<RunPlan>(read_run_config(config.root, config.shown, config.base_dir));
}

RunResult execute(RunPlan& plan, const ExecuteOptions& options) {
  RunMetrics metrics(plan, options.keep_rows);
  ObserverList observers;
  observers.add(metrics);
  const std::size_t events = plan.schedule().passes.size() * plan.trace().shape().layers;
  const std::uint64_t accesses = events * plan.session().max_visit_experts();
  const bool with_bounds = options.with_bounds && accesses <= kMostAccessesForBounds;
  const bool record = with_bounds && !plan.future_known();
  AccessLog log(plan.trace().shape(), record ? events : 0, record ? accesses : 0);
  AccessRecorder recorder(log, plan.config().cache.reset);
  if (record) observers.add(recorder);
  run_passes(plan, options, observers);
  RunResult result = metrics.result();
  if (with_bounds) {
    const std::string caveat = plan.belady_caveat();
    auto& warnings = result.warnings;
    if (!caveat.empty() && std::find(warnings.begin(), warnings.end(), caveat) == warnings.end()) {
      warnings.push_back(caveat);
    }
    result.offline.emplace();
    result.belady_hit_rate = measure_offline(plan, plan.native_accesses(), *result.offline);
    if (plan.is_native()) {
      result.offline_executed = result.offline;
      result.belady_executed_hit_rate = result.belady_hit_rate;
    } else {
      result.offline_executed.emplace();
      if (record) log.finish();
      result.belady_executed_hit_rate = measure_offline(
          plan, record ? std::move(log) : plan.executed_accesses(), *result.offline_executed);
    }
  } else if (options.with_bounds) {
    result.warnings.push_back("the Belady bounds were left out: too many accesses");
  }
  return result;
}

RunReport run(const ConfigText& config, const ExecuteOptions& options) {
  const std::unique_ptr<RunPlan> plan = plan_run(config);
  RunReport report;
  report.result = execute(*plan, options);
  auto& warnings = report.result.warnings;
  warnings.insert(warnings.begin(), config.warnings.begin(), config.warnings.end());
  report.facts = describe_run(*plan);
  report.inputs = inputs_of(config, *plan);
  return report;
}

std::vector<RunReport::Input> inputs_of(const ConfigText& config, const RunPlan& plan) {
  std::vector<RunReport::Input> inputs{
      {config.shown, sha256_of_file(config.shown)},
      {plan.config().trace_shown, sha256_of_file(plan.config().trace_path)}};
  for (const RunConfig::Input& input : plan.config().inputs) {
    inputs.push_back({input.shown, sha256_of_file(input.path)});
  }
  return inputs;
}

}  // namespace moesim
