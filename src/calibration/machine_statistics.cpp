#include "calibration/machine_statistics.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "core/errors.h"
#include "core/rng.h"

namespace moesim {
namespace {

constexpr double kGiveUpAfterBudgets = 3;

void shuffle(std::vector<std::size_t>& order, Rng& rng) {
  for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[rng.below(i)]);
}

}  // namespace

double quantile(std::vector<double> samples, double q) {
  if (samples.empty()) throw InvariantError("a quantile of no samples was asked for");
  std::sort(samples.begin(), samples.end());
  const double at = q * static_cast<double>(samples.size() - 1);
  const auto below = static_cast<std::size_t>(at);
  const std::size_t above = std::min(below + 1, samples.size() - 1);
  const double share = at - static_cast<double>(below);
  return samples[below] + share * (samples[above] - samples[below]);
}

Summary summarise(const std::vector<double>& samples) {
  Summary summary;
  summary.median = quantile(samples, 0.5);
  summary.repetitions = samples.size();
  for (const double sample : samples) summary.mean += std::min(sample, 2 * summary.median);
  summary.mean /= static_cast<double>(samples.size());
  if (summary.median != 0) {
    summary.spread = (quantile(samples, 0.75) - quantile(samples, 0.25)) / std::abs(summary.median);
  }
  return summary;
}

std::vector<std::vector<double>> measure_in_turns(
    const std::vector<std::function<double()>>& measurements, const TurnLimits& limits,
    const std::function<double()>& now_s, const std::function<void()>& tick) {
  std::vector<std::vector<double>> samples(measurements.size());
  std::vector<std::size_t> order(measurements.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  Rng rng = Rng::for_component(1, "measurement turns");
  const double start = now_s();
  for (std::size_t round = 0; round < limits.most_rounds; ++round) {
    const double spent = now_s() - start;
    if (round >= limits.least_rounds && spent >= limits.budget_s) break;
    shuffle(order, rng);
    for (const std::size_t i : order) {
      const bool too_slow = now_s() - start >= kGiveUpAfterBudgets * limits.budget_s;
      if (too_slow && !samples[i].empty()) continue;
      samples[i].push_back(measurements[i]());
      tick();
    }
    if (round > 0 && now_s() - start >= kGiveUpAfterBudgets * limits.budget_s) break;
  }
  return samples;
}

}  // namespace moesim
