#include "metrics/routing_quality.h"

#include <algorithm>
#include <cmath>

#include "core/errors.h"

namespace moesim {
namespace {

// Equal shares where every mass has underflowed.
double share(double mass, double sum, std::size_t members) {
  return sum > 0 ? mass / sum : 1.0 / static_cast<double>(members);
}

// One expert's part of KL(own || mean of own and other), natural logarithm.
double divergence_part(double own, double other) {
  return own > 0 ? own * std::log(2 * own / (own + other)) : 0.0;
}

}  // namespace

RoutingQuality::RoutingQuality(RoutingShape shape, std::size_t k, std::size_t max_experts,
                               std::size_t visits, bool absolute_mass)
    : shape_(shape),
      absolute_mass_(absolute_mass),
      sums_(shape.layers),
      loads_(shape.layers * shape.experts),
      is_native_(shape.experts, 0) {
  union_.reserve(k + max_experts);
  dropped_masses_.reserve(visits);
  divergences_.reserve(visits);
  gate_l2s_.reserve(visits);
  counts_.displaced_by_rank.resize(k);
  counts_.promoted_by_rank.resize(shape.experts);
  counts_.experts_histogram.resize(max_experts + 1);
}

void RoutingQuality::start() {
  std::fill(sums_.begin(), sums_.end(), Sums{});
  std::fill(loads_.begin(), loads_.end(), 0);
  dropped_masses_.clear();
  divergences_.clear();
  gate_l2s_.clear();
  counts_.added = 0;
  counts_.removed = 0;
  for (auto* counts :
       {&counts_.displaced_by_rank, &counts_.promoted_by_rank, &counts_.experts_histogram}) {
    std::fill(counts->begin(), counts->end(), 0);
  }
}

void RoutingQuality::add(LayerId layer, Gate& gate, const Selection& executed) {
  Sums& sums = sums_[index(layer)];
  // First, for afterwards every relative probability is at hand.
  const double total =
      absolute_mass_ && gate.has_logits() ? gate.total_relative_probability() : 0.0;
  const std::size_t native_experts = gate.native().ids.size();
  const std::size_t kept = gather(gate.native(), executed);
  ++sums.visits;
  sums.experts += executed.ids.size();
  for (const ExpertId id : executed.ids) ++loads_[index(layer) * shape_.experts + index(id)];
  sums.agreement += static_cast<double>(kept) / static_cast<double>(native_experts);
  ++counts_.experts_histogram[executed.ids.size()];
  if (kept == native_experts && kept == executed.ids.size()) {
    sums.retained_mass += 1;
  } else {
    count_changes(native_experts, gate);
    if (weigh(native_experts, gate)) {
      add_masses(native_experts, sums);
    } else {
      ++sums.unweighed;
    }
  }
  add_logits(native_experts, gate, total, sums);
  if (executed.ids.size() != native_experts || !gate.has_logits()) ++sums.without_regret;
}

std::size_t RoutingQuality::gather(const Selection& native, const Selection& executed) {
  union_.clear();
  for (const ExpertId id : native.ids) {
    is_native_[index(id)] = 1;
    union_.push_back({id, 0, false});
  }
  std::size_t kept = 0;
  for (const ExpertId id : executed.ids) {
    if (is_native_[index(id)] == 1) {
      is_native_[index(id)] = 2;
      ++kept;
    } else {
      union_.push_back({id, 0, true});
    }
  }
  for (std::size_t i = 0; i < native.ids.size(); ++i) {
    union_[i].executed = is_native_[index(native.ids[i])] == 2;
    is_native_[index(native.ids[i])] = 0;
  }
  return kept;
}

void RoutingQuality::count_changes(std::size_t native_experts, Gate& gate) {
  for (std::size_t i = 0; i < native_experts; ++i) {
    if (union_[i].executed) continue;
    ++counts_.removed;
    ++counts_.displaced_by_rank[i];
  }
  for (std::size_t i = native_experts; i < union_.size(); ++i) {
    if (!gate.has_logits()) {
      throw InvariantError("an expert ran that the compact trace did not select");
    }
    ++counts_.added;
    ++counts_.promoted_by_rank[gate.rank(union_[i].expert)];
  }
}

// Fills the masses of union_; false where nothing says what they are.
bool RoutingQuality::weigh(std::size_t native_experts, Gate& gate) {
  if (gate.has_logits()) {
    for (Member& member : union_) member.mass = gate.relative_probability(member.expert);
    return true;
  }
  const std::vector<double>& recorded = gate.native().weights;
  if (recorded.size() < native_experts) return false;
  for (std::size_t i = 0; i < native_experts; ++i) union_[i].mass = recorded[i];
  return true;
}

void RoutingQuality::add_masses(std::size_t native_experts, Sums& sums) {
  double native_sum = 0;
  double executed_sum = 0;
  double dropped_sum = 0;
  std::size_t executed_experts = 0;
  for (std::size_t i = 0; i < union_.size(); ++i) {
    const Member& member = union_[i];
    if (i < native_experts) native_sum += member.mass;
    if (member.executed) executed_sum += member.mass;
    if (!member.executed) dropped_sum += member.mass;
    executed_experts += member.executed ? 1 : 0;
  }
  double variation = 0;
  double divergence = 0;
  double square_native = 0;
  double square_difference = 0;
  for (std::size_t i = 0; i < union_.size(); ++i) {
    const Member& member = union_[i];
    const double g = i < native_experts ? share(member.mass, native_sum, native_experts) : 0.0;
    const double executed =
        member.executed ? share(member.mass, executed_sum, executed_experts) : 0.0;
    variation += std::abs(g - executed) / 2;
    divergence += (divergence_part(g, executed) + divergence_part(executed, g)) / 2;
    square_native += g * g;
    square_difference += (g - executed) * (g - executed);
  }
  const double dropped = native_sum > 0 ? dropped_sum / native_sum : 0.0;
  const double l2 = std::sqrt(square_difference / square_native);
  sums.retained_mass += native_sum > 0 ? executed_sum / native_sum : 1.0;
  sums.dropped_mass += dropped;
  if (union_.size() == native_experts) sums.skipped_mass += dropped;
  sums.total_variation += variation;
  sums.jensen_shannon += divergence;
  sums.gate_l2 += l2;
  dropped_masses_.push_back(dropped);
  divergences_.push_back(divergence);
  gate_l2s_.push_back(l2);
}

void RoutingQuality::add_logits(std::size_t native_experts, Gate& gate, double total, Sums& sums) {
  if (!gate.has_logits()) {
    ++sums.without_range;
    ++sums.without_total;
    return;
  }
  sums.logit_range += gate.logit_range();
  for (std::size_t i = 0; i < union_.size(); ++i) {
    if (union_[i].executed == (i < native_experts)) continue;
    sums.logit_regret += (i < native_experts ? 1 : -1) * gate.logit(union_[i].expert);
  }
  if (!absolute_mass_) {
    ++sums.without_total;
    return;
  }
  double mass = 0;
  for (const Member& member : union_) {
    if (member.executed) mass += gate.relative_probability(member.expert);
  }
  sums.retained_mass_absolute += total > 0 ? mass / total : 0.0;
}

void RoutingQuality::add_bias_divergence(LayerId layer, double divergence) {
  Sums& sums = sums_[index(layer)];
  ++sums.divergences;
  sums.bias_divergence += divergence;
}

void RoutingQuality::Sums::operator+=(const Sums& other) {
  visits += other.visits;
  experts += other.experts;
  unweighed += other.unweighed;
  without_total += other.without_total;
  without_regret += other.without_regret;
  without_range += other.without_range;
  divergences += other.divergences;
  agreement += other.agreement;
  retained_mass += other.retained_mass;
  retained_mass_absolute += other.retained_mass_absolute;
  dropped_mass += other.dropped_mass;
  skipped_mass += other.skipped_mass;
  total_variation += other.total_variation;
  jensen_shannon += other.jensen_shannon;
  gate_l2 += other.gate_l2;
  logit_regret += other.logit_regret;
  logit_range += other.logit_range;
  bias_divergence += other.bias_divergence;
}

RoutingProxies RoutingQuality::Sums::means() const {
  RoutingProxies means;
  means.visits = visits;
  if (visits == 0) return means;
  const auto n = static_cast<double>(visits);
  const auto mean = [n](double sum, std::uint64_t missing) {
    return missing == 0 ? std::optional(sum / n) : std::nullopt;
  };
  means.experts = static_cast<double>(experts) / n;
  means.agreement = agreement / n;
  means.retained_mass = mean(retained_mass, unweighed);
  means.retained_mass_absolute = mean(retained_mass_absolute, without_total);
  means.dropped_mass = mean(dropped_mass, unweighed);
  means.skipped_mass = mean(skipped_mass, unweighed);
  means.total_variation = mean(total_variation, unweighed);
  means.jensen_shannon = mean(jensen_shannon, unweighed);
  means.gate_l2 = mean(gate_l2, unweighed);
  means.logit_regret = mean(logit_regret, without_regret);
  means.logit_range = mean(logit_range, without_range);
  means.bias_divergence = mean(bias_divergence, visits - divergences);
  return means;
}

std::optional<double> RoutingQuality::p95(std::span<const double> nonzero) const {
  std::uint64_t visits = 0;
  for (const Sums& sums : sums_) {
    if (sums.unweighed > 0) return std::nullopt;
    visits += sums.visits;
  }
  if (visits == 0) return std::nullopt;
  const std::uint64_t element = (95 * visits + 99) / 100;  // counted from one
  const std::uint64_t zeros = visits - nonzero.size();
  if (element <= zeros) return 0.0;
  std::vector<double> values(nonzero.begin(), nonzero.end());
  const auto at = values.begin() + static_cast<std::ptrdiff_t>(element - zeros - 1);
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

double RoutingQuality::load_violation(std::size_t layer) const {
  if (sums_[layer].experts == 0) return 0;
  const auto first = loads_.begin() + static_cast<std::ptrdiff_t>(layer * shape_.experts);
  const auto largest = static_cast<double>(
      *std::max_element(first, first + static_cast<std::ptrdiff_t>(shape_.experts)));
  const double mean =
      static_cast<double>(sums_[layer].experts) / static_cast<double>(shape_.experts);
  return largest / mean - 1;
}

RoutingQualityResult RoutingQuality::result() const {
  RoutingQualityResult result = counts_;
  result.by_layer.reserve(sums_.size());
  Sums all;
  double violations = 0;
  std::size_t visited = 0;
  for (std::size_t layer = 0; layer < sums_.size(); ++layer) {
    all += sums_[layer];
    result.by_layer.push_back(sums_[layer].means());
    result.by_layer.back().load_violation = load_violation(layer);
    violations += result.by_layer.back().load_violation;
    visited += sums_[layer].visits > 0 ? 1 : 0;
  }
  result.mean = all.means();
  if (visited > 0) result.mean.load_violation = violations / static_cast<double>(visited);
  result.p95_dropped_mass = p95(dropped_masses_);
  result.p95_jensen_shannon = p95(divergences_);
  result.p95_gate_l2 = p95(gate_l2s_);
  return result;
}

}  // namespace moesim
