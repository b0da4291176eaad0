#include "metrics/routing_quality.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

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
                               std::size_t tokens)
    : shape_(shape),
      all_(tokens * shape.layers),
      loads_(shape.layers * shape.experts),
      is_native_(shape.experts, 0) {
  layers_.reserve(shape.layers);
  for (std::size_t layer = 0; layer < shape.layers; ++layer) layers_.emplace_back(tokens);
  union_.reserve(k + max_experts);
  counts_.displaced_by_rank.resize(k);
  counts_.promoted_by_rank.resize(shape.experts);
  counts_.experts_histogram.resize(max_experts + 1);
}

void RoutingQuality::start() {
  all_.clear();
  for (Statistics& layer : layers_) layer.clear();
  std::fill(loads_.begin(), loads_.end(), 0);
  counts_.added = 0;
  counts_.removed = 0;
  for (auto* counts :
       {&counts_.displaced_by_rank, &counts_.promoted_by_rank, &counts_.experts_histogram}) {
    std::fill(counts->begin(), counts->end(), 0);
  }
}

void RoutingQuality::add(LayerId layer, Gate& gate, const Selection& executed) {
  // First, for afterwards every relative probability is at hand.
  const double total = gate.has_logits() ? gate.total_relative_probability() : 0.0;
  const std::size_t native_experts = gate.native().ids.size();
  const std::size_t kept = gather(gate.native(), executed);
  for (const ExpertId id : executed.ids) ++loads_[index(layer) * shape_.experts + index(id)];
  const double agreement = static_cast<double>(kept) / static_cast<double>(native_experts);
  Values values;
  values[kExperts] = static_cast<double>(executed.ids.size());
  values[kAgreement] = agreement;
  values[kSwapRate] = 1 - agreement;
  ++counts_.experts_histogram[executed.ids.size()];
  if (kept == native_experts && kept == executed.ids.size()) {
    values[kRetainedMass] = 1.0;
    for (const Proxy proxy :
         {kDroppedMass, kSkippedMass, kTotalVariation, kJensenShannon, kGateL2}) {
      values[proxy] = 0.0;
    }
  } else {
    count_changes(native_experts, gate);
    if (weigh(native_experts, gate)) compare_masses(native_experts, values);
  }
  if (gate.has_logits()) compare_logits(native_experts, gate, total, values);
  layers_[index(layer)].add_visit(values);
  all_.add_visit(values);
}

void RoutingQuality::add_skipped(LayerId layer) {
  Values values;
  for (const Proxy none : {kExperts, kAgreement, kRetainedMass, kRetainedMassAbsolute}) {
    values[none] = 0.0;
  }
  for (const Proxy whole : {kSwapRate, kDroppedMass, kSkippedMass, kTotalVariation, kGateL2}) {
    values[whole] = 1.0;
  }
  values[kJensenShannon] = std::numbers::ln2;
  ++counts_.experts_histogram[0];
  counts_.removed += counts_.displaced_by_rank.size();
  for (std::uint64_t& displaced : counts_.displaced_by_rank) ++displaced;
  layers_[index(layer)].add_visit(values);
  all_.add_visit(values);
}

void RoutingQuality::add_bias_divergence(LayerId layer, double divergence) {
  layers_[index(layer)].add(kBiasDivergence, divergence);
  all_.add(kBiasDivergence, divergence);
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

void RoutingQuality::compare_masses(std::size_t native_experts, Values& values) const {
  double native_sum = 0;
  double executed_sum = 0;
  double dropped_sum = 0;
  for (std::size_t i = 0; i < union_.size(); ++i) {
    const Member& member = union_[i];
    if (i < native_experts) native_sum += member.mass;
    (member.executed ? executed_sum : dropped_sum) += member.mass;
  }
  const double dropped = native_sum > 0 ? dropped_sum / native_sum : 0.0;
  values[kRetainedMass] = native_sum > 0 ? executed_sum / native_sum : 1.0;
  values[kDroppedMass] = dropped;
  values[kSkippedMass] = union_.size() == native_experts ? dropped : 0.0;
  compare_gates(native_experts, native_sum, executed_sum, values);
}

void RoutingQuality::compare_gates(std::size_t native_experts, double native_sum,
                                   double executed_sum, Values& values) const {
  const auto executed_experts = static_cast<std::size_t>(std::count_if(
      union_.begin(), union_.end(), [](const Member& member) { return member.executed; }));
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
  values[kTotalVariation] = variation;
  values[kJensenShannon] = divergence;
  values[kGateL2] = std::sqrt(square_difference / square_native);
}

// `total`: of the relative probabilities of all experts.
void RoutingQuality::compare_logits(std::size_t native_experts, Gate& gate, double total,
                                    Values& values) const {
  double mass = 0;
  double regret = 0;
  std::size_t executed = 0;
  for (std::size_t i = 0; i < union_.size(); ++i) {
    const Member& member = union_[i];
    if (member.executed) {
      mass += gate.relative_probability(member.expert);
      ++executed;
    }
    if (member.executed == (i < native_experts)) continue;
    regret += (i < native_experts ? 1 : -1) * gate.logit(member.expert);
  }
  values[kLogitRange] = gate.logit_range();
  values[kRetainedMassAbsolute] = total > 0 ? mass / total : 0.0;
  if (executed == native_experts) values[kLogitRegret] = regret;
}

RoutingQuality::Statistics::Statistics(std::size_t most_visits) {
  series_.reserve(kProxies);
  for (std::size_t i = 0; i < kProxies; ++i) series_.push_back({0, 0, UpperTail(most_visits)});
}

void RoutingQuality::Statistics::add_visit(const Values& values) {
  ++visits_;
  for (std::size_t i = 0; i < kProxies; ++i) {
    if (values[i]) add(static_cast<Proxy>(i), *values[i]);
  }
}

void RoutingQuality::Statistics::add(Proxy proxy, double value) {
  Series& series = series_[proxy];
  ++series.values;
  series.sum += value;
  series.tail.add(value);
}

void RoutingQuality::Statistics::clear() {
  visits_ = 0;
  for (Series& series : series_) {
    series.values = 0;
    series.sum = 0;
    series.tail.clear();
  }
}

template <class Statistic>
RoutingProxies RoutingQuality::Statistics::proxies(Statistic&& statistic) const {
  RoutingProxies result;
  result.visits = visits_;
  if (visits_ == 0) return result;
  const auto of = [&](Proxy proxy) {
    const Series& series = series_[proxy];
    return series.values == visits_ ? std::optional<double>(statistic(series)) : std::nullopt;
  };
  result.experts = of(kExperts).value();
  result.agreement = of(kAgreement).value();
  result.swap_rate = of(kSwapRate).value();
  result.retained_mass = of(kRetainedMass);
  result.retained_mass_absolute = of(kRetainedMassAbsolute);
  result.dropped_mass = of(kDroppedMass);
  result.skipped_mass = of(kSkippedMass);
  result.total_variation = of(kTotalVariation);
  result.jensen_shannon = of(kJensenShannon);
  result.gate_l2 = of(kGateL2);
  result.logit_regret = of(kLogitRegret);
  result.logit_range = of(kLogitRange);
  result.bias_divergence = of(kBiasDivergence);
  const double ranges = series_[kLogitRange].sum;
  if (result.logit_regret) {
    result.logit_regret_over_mean_range =
        ranges > 0 ? *result.logit_regret / (ranges / static_cast<double>(visits_)) : 0.0;
  }
  return result;
}

RoutingProxies RoutingQuality::Statistics::means() const {
  return proxies(
      [](const Series& series) { return series.sum / static_cast<double>(series.values); });
}

RoutingProxies RoutingQuality::Statistics::p95s() const {
  return proxies([](const Series& series) { return series.tail.p95(); });
}

double RoutingQuality::load_violation(std::size_t layer) const {
  const auto first = loads_.begin() + static_cast<std::ptrdiff_t>(layer * shape_.experts);
  const auto end = first + static_cast<std::ptrdiff_t>(shape_.experts);
  const std::uint64_t all = std::accumulate(first, end, std::uint64_t{0});
  if (all == 0) return 0;
  const auto largest = static_cast<double>(*std::max_element(first, end));
  return largest * static_cast<double>(shape_.experts) / static_cast<double>(all) - 1;
}

RoutingQualityResult RoutingQuality::result() const {
  RoutingQualityResult result = counts_;
  result.mean = all_.means();
  result.p95 = all_.p95s();
  result.by_layer.reserve(layers_.size());
  result.p95_by_layer.reserve(layers_.size());
  result.load_violation_by_layer.reserve(layers_.size());
  double violations = 0;
  std::size_t visited = 0;
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    result.by_layer.push_back(layers_[l].means());
    result.p95_by_layer.push_back(layers_[l].p95s());
    result.load_violation_by_layer.push_back(load_violation(l));
    violations += result.load_violation_by_layer.back();
    visited += result.by_layer.back().visits > 0 ? 1 : 0;
  }
  if (visited > 0) result.load_violation = violations / static_cast<double>(visited);
  return result;
}

}  // namespace moesim
