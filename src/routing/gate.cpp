#include "routing/gate.h"

#include <fmt/format.h>

#include <Eigen/Core>
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "core/errors.h"
#include "core/row_exp.h"
#include "core/select.h"

namespace moesim {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Four running sums, so that the additions overlap; the order is fixed by the length alone.
double sum_of(std::span<const double> values) {
  std::array<double, 4> sums{};
  std::size_t i = 0;
  for (; i + 4 <= values.size(); i += 4) {
    for (std::size_t lane = 0; lane < 4; ++lane) sums[lane] += values[i + lane];
  }
  for (; i < values.size(); ++i) sums[0] += values[i];
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

// The number of scores that rank before index `at`.
template <class Score>
std::size_t count_before(std::span<const Score> scores, std::size_t at) {
  const Score score = scores[at];
  std::uint32_t count = 0;
  for (std::size_t i = 0; i < at; ++i) count += scores[i] >= score ? 1 : 0;
  for (std::size_t i = at + 1; i < scores.size(); ++i) count += scores[i] > score ? 1 : 0;
  return count;
}

Eigen::Map<const Eigen::ArrayXf> as_array(std::span<const float> values) {
  return {values.data(), static_cast<Eigen::Index>(values.size())};
}

void check_groups(const GateSpec& spec, std::size_t experts, std::size_t k,
                  const std::string& place) {
  if (spec.n_group == 0 || experts % spec.n_group != 0) {
    throw user_error(place, fmt::format("expected an n_group that divides the {} experts, got {}",
                                        experts, spec.n_group));
  }
  if (spec.topk_group == 0 || spec.topk_group > spec.n_group) {
    throw user_error(place, fmt::format("expected topk_group in [1, {}], got {}", spec.n_group,
                                        spec.topk_group));
  }
  const std::size_t eligible = experts / spec.n_group * spec.topk_group;
  if (k > eligible) {
    throw user_error(place, fmt::format("expected k <= {}, the experts of {} of {} groups, got {}",
                                        eligible, spec.topk_group, spec.n_group, k));
  }
}

void check(const GateSpec& spec, std::size_t experts, std::size_t k) {
  const std::string place = "gate " + to_string(spec.code);
  const std::size_t fixed = spec.code == GateCode::kF ? 2 : spec.code == GateCode::kG ? 1 : 0;
  if (fixed != 0 && k != fixed) {
    throw user_error(place, fmt::format("expected k = {}, got {}", fixed, k));
  }
  if (k == 0 || k > experts) {
    throw user_error(
        place, fmt::format("expected k in [1, {}], the number of experts, got {}", experts, k));
  }
  if (spec.code == GateCode::kD) check_groups(spec, experts, k, place);
}

}  // namespace

Gate::Gate(const GateSpec& spec, std::size_t experts, std::size_t k)
    : spec_(spec), experts_(experts), k_(k) {
  check(spec, experts, k);
  ranking_.resize(experts);
  scores_.resize(experts);
  probabilities_.resize(experts);
  exponentials_.resize(experts);
  exponential_visits_.resize(experts);
  if (spec.code == GateCode::kD && spec.n_group > 1) {
    group_scores_.resize(spec.n_group);
    kept_groups_.resize(spec.topk_group);
  }
  native_.reserve(k);
}

bool Gate::renormalises() const {
  switch (spec_.code) {
    case GateCode::kA:
    case GateCode::kC:
    case GateCode::kE:
      return true;
    case GateCode::kD:
      return spec_.norm_topk_prob;
    case GateCode::kB:
    case GateCode::kF:
    case GateCode::kG:
      return false;
  }
  return false;
}

bool Gate::ranks_by_logits() const {
  switch (spec_.code) {
    case GateCode::kD:
      return bias_.empty() && spec_.n_group <= 1;
    case GateCode::kF:
    case GateCode::kG:
      return true;
    default:
      return bias_.empty();
  }
}

void Gate::start_visit() {
  ranking_ready_ = false;
  native_ready_ = false;
  scores_ready_ = false;
  probabilities_ready_ = false;
  logit_range_ready_ = false;
  ++visit_;
}

void Gate::set_logits(std::span<const float> logits, std::span<const float> selection_bias) {
  start_visit();
  logits_ = logits;
  bias_ = selection_bias;
}

void Gate::set_recorded(std::span<const ExpertId> ids, std::span<const float> weights) {
  start_visit();
  logits_ = {};
  bias_ = {};
  const std::size_t count = std::min(k_, ids.size());
  const auto first = ids.first(count);
  native_.ids.assign(first.begin(), first.end());
  native_.weights.clear();
  if (!weights.empty()) {
    double all = 0;
    for (const float weight : weights) all += weight;
    for (const float weight : weights.first(count)) native_.weights.push_back(weight);
    // A recording of more experts than k: the gate would have normalised over the first k alone.
    if (count < ids.size() && renormalises()) spread(native_.weights, all);
  }
  native_ready_ = true;
}

const Selection& Gate::native() {
  if (!native_ready_) compute_native();
  return native_;
}

void Gate::compute_native() {
  native_.ids.resize(k_);
  native_.weights.resize(k_);
  if (ranks_by_logits()) {
    select_top_k<float, ExpertId>(logits_, native_.ids);
  } else {
    select_top_k<double, ExpertId>(ranking(), native_.ids);
  }
  native_ready_ = true;
  weights(native_.ids, native_.weights);
}

double Gate::largest_logit() {
  if (native_ready_ && ranks_by_logits()) return logits_[index(native_.ids.front())];
  return as_array(logits_).maxCoeff();
}

std::span<const double> Gate::scores() {
  if (scores_ready_) return scores_;
  const bool by_sigmoid = spec_.code == GateCode::kD || spec_.code == GateCode::kE;
  const double shift = by_sigmoid ? 0.0 : largest_logit();
  for (std::size_t e = 0; e < experts_; ++e) scores_[e] = static_cast<double>(logits_[e]) - shift;
  if (by_sigmoid) {
    Eigen::Map<Eigen::ArrayXd> values(scores_.data(), static_cast<Eigen::Index>(experts_));
    values = (1.0 + (-values).exp()).inverse();
  } else {
    exp_row(scores_);
  }
  scores_sum_ = sum_of(scores_);
  scores_ready_ = true;
  return scores_;
}

float Gate::not_below(double bound) {
  const auto nearest = static_cast<float>(bound);
  return nearest < bound ? std::nextafter(nearest, std::numeric_limits<float>::infinity())
                         : nearest;
}

std::span<const double> Gate::ranking() {
  if (!ranking_ready_) compute_ranking();
  return ranking_;
}

void Gate::compute_ranking() {
  ranking_ready_ = true;
  if (ranks_by_logits()) {
    std::copy(logits_.begin(), logits_.end(), ranking_.begin());
    return;
  }
  rank_scores(selection_scores(), ranking_);
}

std::span<const double> Gate::selection_scores() {
  const bool by_sigmoid = spec_.code == GateCode::kD || spec_.code == GateCode::kE;
  return by_sigmoid ? scores() : probabilities();
}

void Gate::rank_scores(std::span<const double> from, std::span<double> ranking) {
  const bool knows_bias = spec_.code != GateCode::kF && spec_.code != GateCode::kG;
  const bool biased = knows_bias && !bias_.empty();
  for (std::size_t e = 0; e < experts_; ++e) {
    ranking[e] = from[e] + (biased ? static_cast<double>(bias_[e]) : 0.0);
  }
  if (!group_scores_.empty()) exclude_groups(ranking);
}

// DeepSeek-V3: a group is worth the sum of its two largest scores; only the best groups take part.
void Gate::exclude_groups(std::span<double> ranking) {
  const std::size_t size = experts_ / spec_.n_group;
  for (std::size_t group = 0; group < spec_.n_group; ++group) {
    double best = -kInfinity;
    double second = -kInfinity;
    for (std::size_t e = group * size; e < (group + 1) * size; ++e) {
      second = std::max(second, std::min(best, ranking[e]));
      best = std::max(best, ranking[e]);
    }
    group_scores_[group] = size > 1 ? best + second : best;
  }
  select_top_k<double, std::uint16_t>(group_scores_, kept_groups_);
  for (std::size_t group = 0; group < spec_.n_group; ++group) {
    if (std::find(kept_groups_.begin(), kept_groups_.end(), group) != kept_groups_.end()) continue;
    const auto first = ranking.begin() + static_cast<std::ptrdiff_t>(group * size);
    std::fill_n(first, size, -kInfinity);
  }
}

double Gate::ranking_range() {
  if (ranks_by_logits()) return logit_range();
  double largest = -kInfinity;
  double smallest = kInfinity;
  for (const double score : ranking()) {
    largest = std::max(largest, score);
    if (score > -kInfinity) smallest = std::min(smallest, score);
  }
  return largest - smallest;
}

double Gate::logit_range() {
  if (!logit_range_ready_) {
    logit_range_ = largest_logit() - static_cast<double>(as_array(logits_).minCoeff());
    logit_range_ready_ = true;
  }
  return logit_range_;
}

std::size_t Gate::rank(ExpertId expert) {
  if (ranks_by_logits()) return count_before<float>(logits_, index(expert));
  return count_before<double>(ranking(), index(expert));
}

std::span<const double> Gate::probabilities() {
  if (!probabilities_ready_) {
    const std::span<const double> all = scores();
    // Sigmoids of a whole row may underflow; then nothing tells the experts apart.
    const bool some = scores_sum_ > 0;
    for (std::size_t e = 0; e < experts_; ++e) {
      probabilities_[e] = some ? all[e] / scores_sum_ : 1.0 / static_cast<double>(experts_);
    }
    probabilities_ready_ = true;
  }
  return probabilities_;
}

double Gate::relative_probability(ExpertId expert) {
  if (scores_all() || scores_ready_) return scores()[index(expert)];
  if (spec_.code == GateCode::kD || spec_.code == GateCode::kE) {
    return 1.0 / (1.0 + std::exp(-logit(expert)));
  }
  return exponential(expert);
}

double Gate::total_relative_probability() {
  static_cast<void>(scores());
  return scores_sum_;
}

}  // namespace moesim
