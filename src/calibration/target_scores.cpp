#include "calibration/target_scores.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <set>

namespace moesim {
namespace {

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double correlation(const std::vector<double>& a, const std::vector<double>& b) {
  const double mean_a = mean(a);
  const double mean_b = mean(b);
  double cross = 0;
  double square_a = 0;
  double square_b = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    cross += (a[i] - mean_a) * (b[i] - mean_b);
    square_a += (a[i] - mean_a) * (a[i] - mean_a);
    square_b += (b[i] - mean_b) * (b[i] - mean_b);
  }
  const double scale = std::sqrt(square_a * square_b);
  return scale > 0 ? cross / scale : 0;
}

bool counts(const TargetResult& result) { return !result.fitted && result.simulated.is_object(); }

std::optional<double> median_abs(const std::vector<const TargetResult*>& rows,
                                 const std::string& metric) {
  std::vector<double> errors;
  for (const TargetResult* result : rows) {
    if (const auto error = metric_of(result->error, metric)) errors.push_back(std::abs(*error));
  }
  return errors.empty() ? std::nullopt : std::optional(median(std::move(errors)));
}

GroupScore score(const std::string& name, const std::vector<const TargetResult*>& rows) {
  GroupScore group;
  group.name = name;
  group.rows = rows.size();
  group.median_abs_wall = median_abs(rows, "wall_ms.mean");
  group.median_abs_io = median_abs(rows, "io_ms");
  group.median_abs_io_per_mib = median_abs(rows, "io_ms_per_mib");
  group.median_abs_compute = median_abs(rows, "compute_ms");
  for (const TargetResult* result : rows) {
    const auto error = metric_of(result->error, "wall_ms.mean");
    if (!error) continue;
    group.largest_abs_wall = std::max(group.largest_abs_wall.value_or(0), std::abs(*error));
  }
  return group;
}

// One score for each value of `key`, in the order of the rows.
std::vector<GroupScore> score_by(const std::vector<const TargetResult*>& rows,
                                 const std::function<std::string(const TargetRow&)>& key) {
  std::vector<GroupScore> scores;
  std::set<std::string> done;
  for (const TargetResult* first : rows) {
    const std::string name = key(first->row);
    if (!done.insert(name).second) continue;
    std::vector<const TargetResult*> members;
    std::copy_if(rows.begin(), rows.end(), std::back_inserter(members),
                 [&](const TargetResult* result) { return key(result->row) == name; });
    scores.push_back(score(name, members));
  }
  return scores;
}

const TargetResult* find_row(const std::vector<TargetResult>& rows, const std::string& id) {
  const auto found = std::find_if(rows.begin(), rows.end(),
                                  [&](const TargetResult& result) { return result.row.id == id; });
  return found == rows.end() ? nullptr : &*found;
}

// b / a - 1 of a metric, in percent.
std::optional<double> change_pct(const Json& a, const Json& b, const std::string& metric) {
  const auto before = metric_of(a, metric);
  const auto after = metric_of(b, metric);
  if (!before || !after || *before <= 0) return std::nullopt;
  return 100 * (*after / *before - 1);
}

}  // namespace

PerTokenError per_token_error(const std::vector<double>& measured,
                              const std::vector<double>& simulated) {
  std::vector<double> errors;
  errors.reserve(measured.size());
  for (std::size_t i = 0; i < measured.size(); ++i) {
    errors.push_back(std::abs(simulated[i] / measured[i] - 1));
  }
  PerTokenError result;
  result.tokens = measured.size();
  result.mape = mean(errors);
  result.median_abs = median(std::move(errors));
  result.correlation = correlation(measured, simulated);
  return result;
}

Json target_errors(const Json& measured, const Json& simulated) {
  Json errors = Json::object();
  for (const auto& item : measured.items()) {
    if (!simulated.contains(item.key())) continue;
    const Json& other = simulated.at(item.key());
    if (item.value().is_object() && other.is_object()) {
      errors[item.key()] = target_errors(item.value(), other);
    } else if (item.value().is_number() && other.is_number()) {
      const double was = item.value().get<double>();
      const double is = other.get<double>();
      const bool points = item.key().ends_with("hit_pct");
      if (points) errors[item.key()] = is - was;
      if (!points && was > 0) errors[item.key()] = is / was - 1;
    }
  }
  return errors;
}

std::vector<ContrastResult> score_contrasts(const std::vector<TargetContrast>& contrasts,
                                            const std::vector<TargetResult>& rows) {
  std::vector<ContrastResult> results;
  results.reserve(contrasts.size());
  for (const TargetContrast& contrast : contrasts) {
    ContrastResult result{contrast, std::nullopt, std::nullopt};
    const TargetResult* a = find_row(rows, contrast.a);
    const TargetResult* b = find_row(rows, contrast.b);
    if (a != nullptr && b != nullptr) {
      result.simulated_pct = change_pct(a->simulated, b->simulated, contrast.metric);
    }
    if (result.simulated_pct) {
      result.sign_right = *result.simulated_pct * contrast.effect_pct > 0;
    }
    results.push_back(std::move(result));
  }
  return results;
}

TargetSummary summarise(const std::vector<TargetResult>& rows,
                        const std::vector<ContrastResult>& contrasts) {
  TargetSummary summary;
  std::vector<const TargetResult*> counted;
  for (const TargetResult& result : rows) {
    if (result.fitted) ++summary.fitted;
    if (!result.simulated.is_object()) ++summary.not_simulated;
    if (counts(result)) counted.push_back(&result);
    const auto hits = metric_of(result.error, "hit_pct");
    if (hits && !result.row.route_trace.empty()) {
      summary.largest_hit_difference =
          std::max(summary.largest_hit_difference.value_or(0), std::abs(*hits));
    }
  }
  summary.all = score("all", counted);
  summary.by_state = score_by(counted, [](const TargetRow& row) { return row.state; });
  summary.by_group = score_by(counted, [](const TargetRow& row) { return row.group; });
  for (const ContrastResult& result : contrasts) {
    if (!result.contrast.score) continue;
    ++summary.scored_contrasts;
    if (result.sign_right.value_or(false)) ++summary.right_signs;
  }
  return summary;
}

}  // namespace moesim
