// The weight rules of the gates: what multiplies the output of each expert of a selection.
#include <algorithm>
#include <cmath>
#include <limits>

#include "core/errors.h"
#include "routing/gate.h"

namespace moesim {
namespace {

// The width of SparseMixer's band of near-ties at inference (router_jitter_noise of Phi-3.5-MoE).
constexpr double kSparseMixerJitter = 0.01;

double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

}  // namespace

void Gate::spread(std::span<double> values, double sum_to) {
  double sum = 0;
  for (const double value : values) sum += value;
  for (double& value : values) {
    value = sum > 0 ? sum_to * value / sum : sum_to / static_cast<double>(values.size());
  }
}

void Gate::weights(std::span<const ExpertId> ids, std::span<double> weights) {
  if (!has_logits()) return recorded_weights(ids, weights);
  const double factor = spec_.routed_scaling_factor;
  switch (spec_.code) {
    case GateCode::kA:
    case GateCode::kC:
      restricted_softmax(ids, weights);
      return spread(weights, factor);
    case GateCode::kF:
      return sparse_mixer(ids, weights);
    case GateCode::kB:
      scale_scores(ids, factor / total_relative_probability(), weights);
      return;
    case GateCode::kD:
    case GateCode::kE:
    case GateCode::kG:
      for (std::size_t i = 0; i < ids.size(); ++i) {
        weights[i] = scores_ready_ && spec_.code != GateCode::kG ? scores_[index(ids[i])]
                                                                 : sigmoid(logit(ids[i]));
      }
      if (renormalises()) return spread(weights, factor);
      for (double& weight : weights) weight *= factor;
  }
}

void Gate::scale_scores(std::span<const ExpertId> ids, double factor, std::span<double> weights) {
  const std::span<const double> all = scores();
  for (std::size_t i = 0; i < ids.size(); ++i) weights[i] = factor * all[index(ids[i])];
}

// Numerators only. Shifted by the largest logit of `ids`, so that one of them is 1 however far the
// selection lies below the best expert.
void Gate::restricted_softmax(std::span<const ExpertId> ids, std::span<double> weights) {
  for (std::size_t i = 0; i < ids.size(); ++i) weights[i] = exponential(ids[i]);
}

double Gate::exponential(ExpertId expert) {
  const std::size_t e = index(expert);
  if (exponential_visits_[e] != visit_) {
    exponential_visits_[e] = visit_;
    exponentials_[e] = std::exp(logit(expert) - largest_logit());
  }
  return exponentials_[e];
}

// Each weight is a softmax at ids[i] over the experts within a relative band below it, those chosen
// before it left out (arXiv 2310.00811; code F of the glossary).
void Gate::sparse_mixer(std::span<const ExpertId> ids, std::span<double> weights) const {
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const double pivot = logit(ids[i]);
    double sum = 1.0;
    for (std::size_t e = 0; e < experts_; ++e) {
      const double z = logits_[e];
      const double band = 2 * kSparseMixerJitter * std::max(std::abs(z), pivot);
      if (e == index(ids[i]) || z > pivot || pivot - z > band) continue;
      const bool chosen_before = z == pivot && e < index(ids[i]) &&
                                 std::find(ids.begin(), ids.end(), ExpertId(e)) != ids.end();
      if (!chosen_before) sum += std::exp(z - pivot);
    }
    weights[i] = spec_.routed_scaling_factor / sum;
  }
}

void Gate::recorded_weights(std::span<const ExpertId> ids, std::span<double> weights) const {
  double all = 0;
  for (const double weight : native_.weights) all += weight;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const auto found = std::find(native_.ids.begin(), native_.ids.end(), ids[i]);
    const auto rank = static_cast<std::size_t>(found - native_.ids.begin());
    if (rank >= native_.weights.size()) {
      throw InvariantError("a compact trace has no weight for the expert of a selection");
    }
    weights[i] = native_.weights[rank];
  }
  if (renormalises() && ids.size() < native_.ids.size()) spread(weights, all);
}

}  // namespace moesim
