#include "api/shared_runs.h"

#include <utility>

#include "metrics/run_metrics.h"

namespace moesim {
namespace {

std::string text_of(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// A cache but for its capacity and eviction; `expert_size` differs between bytes and experts.
Json cache_but_capacity(const RunPlan& plan) {
  Json cache = plan.config().resolved.at("cache");
  for (const char* key : {"capacity_experts", "capacity_fraction", "capacity_mib", "eviction"}) {
    cache.erase(key);
  }
  cache["in_bytes"] = plan.config().cache.capacity.mib.has_value();
  return cache;
}

bool is_on_curve(const RunPlan& plan) {
  return plan.config().eviction.json().at("policy") == "lru" && plan.cache_options().capacity > 0 &&
         lru_is_stack(plan.cache_options());
}

std::string family_of(const RunPlan& plan) {
  return plan.executed_key() + text_of(cache_but_capacity(plan));
}

}  // namespace

FileSum SharedRuns::file_sum() {
  return [this](const std::filesystem::path& path) {
    return *sums_.get(path.string(), [&] { return sha256_of_file(path); });
  };
}

bool SharedRuns::can_derive(const RunPlan& plan) {
  return !plan.config().device && plan.future_known() && plan.config().schedule.batch.size == 1;
}

void SharedRuns::announce(const RunPlan& plan) {
  if (!can_derive(plan) || !is_on_curve(plan)) return;
  const std::string family = family_of(plan);
  const std::scoped_lock lock(mutex_);
  families_[family].insert(plan.cache_options().capacity);
}

std::vector<std::uint64_t> SharedRuns::capacities(const std::string& family) {
  const std::scoped_lock lock(mutex_);
  const std::set<std::uint64_t>& all = families_[family];
  return {all.begin(), all.end()};
}

ReplayCounts SharedRuns::count(const RunPlan& plan) {
  if (!is_on_curve(plan)) return plan.replay_configured(*plan.executed_accesses());
  const std::string family = family_of(plan);
  const auto curve = curves_.get(family, [&] {
    const std::vector<std::uint64_t> all = capacities(family);
    const std::vector<ReplayCounts> counts =
        lru_curve(*plan.executed_accesses(), plan.cache_options(), all, plan.expert_bytes());
    Curve result;
    for (std::size_t i = 0; i < all.size(); ++i) result[all[i]] = counts[i];
    return result;
  });
  return curve->at(plan.cache_options().capacity);
}

RunResult SharedRuns::derive(const RunPlan& plan, const std::function<RunResult()>& run) {
  const auto routed = routed_.get(plan.executed_key(), [&] {
    Routed made;
    made.result = run();
    const auto own = static_cast<std::ptrdiff_t>(plan.warnings().size());
    made.warnings.assign(made.result.warnings.begin() + own, made.result.warnings.end());
    return made;
  });
  const ReplayCounts counts = count(plan);
  RunResult result = routed->result;
  result.cache = counts.measured;
  result.prefill = counts.prefill;
  result.cache_slots = cache_slots(plan.cache_options());
  result.warnings = plan.warnings();
  result.warnings.insert(result.warnings.end(), routed->warnings.begin(), routed->warnings.end());
  return result;
}

OfflineRates SharedRuns::offline(const RunPlan& plan, const std::string& key,
                                 const std::function<OfflineRates()>& measure) {
  Json cache = cache_but_capacity(plan);
  cache["capacity"] = plan.cache_options().capacity;
  return *offline_.get(key + text_of(cache), measure);
}

}  // namespace moesim
