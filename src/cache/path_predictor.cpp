#include "cache/path_predictor.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/errors.h"
#include "core/rng.h"
#include "core/select.h"

namespace moesim {
namespace {

std::span<const ExpertKey> true_experts(const FutureAccesses* future, const ComingVisit& visit) {
  if (future == nullptr) {
    throw InvariantError("the oracle needs the accesses of the whole run");
  }
  if (visit.event >= future->events()) return {};
  return future->event(visit.event);
}

}  // namespace

PreviousTokenPath::PreviousTokenPath(const RoutingShape& shape, std::size_t count)
    : shape_(shape),
      count_(count),
      last_(shape.layers * shape.experts),
      present_(shape.layers, 0) {}

void PreviousTokenPath::observe(LayerId layer, std::span<const ExpertId> experts) {
  std::copy(experts.begin(), experts.end(),
            last_.begin() + static_cast<std::ptrdiff_t>(index(layer) * shape_.experts));
  present_[index(layer)] = static_cast<std::uint32_t>(experts.size());
}

void PreviousTokenPath::begin_sequence() { std::fill(present_.begin(), present_.end(), 0U); }

void PreviousTokenPath::predict(const ComingVisit& visit, std::vector<ExpertKey>& named) {
  if (visit.ahead > shape_.layers) return;
  const std::size_t layer = index(visit.layer);
  const std::size_t count = std::min<std::size_t>(count_, present_[layer]);
  for (std::size_t i = 0; i < count; ++i) {
    named.push_back(expert_key(visit.layer, last_[layer * shape_.experts + i], shape_.experts));
  }
}

PreviousLayerPath::PreviousLayerPath(const RoutingShape& shape, std::size_t count)
    : shape_(shape), count_(count) {
  last_.reserve(shape.experts);
}

void PreviousLayerPath::observe(LayerId /*layer*/, std::span<const ExpertId> experts) {
  last_.assign(experts.begin(), experts.end());
}

void PreviousLayerPath::predict(const ComingVisit& visit, std::vector<ExpertKey>& named) {
  const std::size_t count = std::min(count_, last_.size());
  for (std::size_t i = 0; i < count; ++i) {
    named.push_back(expert_key(visit.layer, last_[i], shape_.experts));
  }
}

PopularityPath::PopularityPath(const RoutingShape& shape, std::size_t count)
    : shape_(shape),
      uses_(shape.layers * shape.experts, 0),
      best_(std::min(count, shape.experts)) {}

void PopularityPath::observe(LayerId layer, std::span<const ExpertId> experts) {
  for (const ExpertId expert : experts) ++uses_[index(layer) * shape_.experts + index(expert)];
}

void PopularityPath::predict(const ComingVisit& visit, std::vector<ExpertKey>& named) {
  const auto uses = std::span<const std::uint64_t>(uses_).subspan(
      index(visit.layer) * shape_.experts, shape_.experts);
  select_top_k(uses, std::span(best_));
  for (const ExpertId expert : best_) {
    if (uses[index(expert)] == 0) break;
    named.push_back(expert_key(visit.layer, expert, shape_.experts));
  }
}

void FuturePath::predict(const ComingVisit& visit, std::vector<ExpertKey>& named) {
  const auto experts = true_experts(future_, visit);
  named.insert(named.end(), experts.begin(), experts.end());
}

NoisyFuturePath::NoisyFuturePath(const RoutingShape& shape, const FutureAccesses* future,
                                 const PredictionNoise& noise)
    : shape_(shape), future_(future), noise_(noise) {
  others_.reserve(shape.experts);
}

void NoisyFuturePath::predict(const ComingVisit& visit, std::vector<ExpertKey>& named) {
  const auto experts = true_experts(future_, visit);
  if (experts.empty()) return;
  Rng rng(Rng(noise_.seed + visit.event).next());
  const std::size_t first = named.size();
  for (const ExpertKey key : experts) {
    if (rng.uniform() < noise_.recall) named.push_back(key);
  }
  // right / (right + wrong) = precision, on average: the fraction is rounded at random.
  const auto right = static_cast<double>(named.size() - first);
  const double wanted = right * (1 - noise_.precision) / noise_.precision;
  auto wrong = static_cast<std::size_t>(wanted);
  if (rng.uniform() < wanted - std::floor(wanted)) ++wrong;
  others_.clear();
  const LayerId layer = layer_of(experts.front(), shape_.experts);
  for (std::size_t e = 0; e < shape_.experts; ++e) {
    const ExpertKey key = expert_key(layer, static_cast<ExpertId>(e), shape_.experts);
    if (std::find(experts.begin(), experts.end(), key) == experts.end()) others_.push_back(key);
  }
  wrong = std::min(wrong, others_.size());
  for (std::size_t i = 0; i < wrong; ++i) {
    std::swap(others_[i], others_[i + rng.below(others_.size() - i)]);
    named.push_back(others_[i]);
  }
  for (std::size_t i = first; i + 1 < named.size(); ++i) {
    std::swap(named[i], named[i + rng.below(named.size() - i)]);
  }
}

}  // namespace moesim
