#include "engine/mixed_precision.h"

#include <numeric>
#include <utility>

#include "core/errors.h"

namespace moesim {
namespace {

// Sums of shares miss a threshold by some 1e-16: 0.2 + 0.2 + 0.2 is not above 0.6.
constexpr double kSlack = 1e-12;

}  // namespace

MixedPrecision::MixedPrecision(const MissOptions& options, const RoutingShape& shape,
                               std::vector<std::uint64_t> expert_bytes,
                               std::vector<std::uint64_t> low_bytes)
    : options_(options),
      shape_(shape),
      expert_bytes_(std::move(expert_bytes)),
      low_bytes_(std::move(low_bytes)),
      item_bytes_(2 * expert_bytes_.size()),
      seen_(expert_bytes_.size(), 0) {
  const bool slices = options_.policy == MissPolicy::kSlices;
  for (std::size_t key = 0; key < expert_bytes_.size(); ++key) {
    if (low_bytes_[key] == 0 || low_bytes_[key] >= expert_bytes_[key]) {
      throw InvariantError("a low precision must be smaller than the full one");
    }
    const std::size_t item = key / shape_.experts * 2 * shape_.experts + key % shape_.experts;
    item_bytes_[item] = slices ? low_bytes_[key] : expert_bytes_[key];
    item_bytes_[item + shape_.experts] =
        slices ? expert_bytes_[key] - low_bytes_[key] : low_bytes_[key];
  }
  items_.reserve(2 * shape_.experts);
  experts_.reserve(shape_.experts);
  parts_.reserve(shape_.experts);
  accesses_.reserve(shape_.experts);
  runs_.reserve(shape_.experts);
}

void MixedPrecision::clear() {
  items_.clear();
  experts_.clear();
  parts_.clear();
  accesses_.clear();
  runs_.clear();
  skipped_ = 0;
  low_ = 0;
}

bool MixedPrecision::full_resident(const ExpertCache& cache, LayerId layer, ExpertId expert) const {
  const ExpertKey first = expert_key(layer, expert, 2 * shape_.experts);
  const auto second = static_cast<ExpertKey>(index(first) + shape_.experts);
  return cache.residency(first) == Residency::kResident &&
         (options_.policy == MissPolicy::kHobbit ||
          cache.residency(second) == Residency::kResident);
}

void MixedPrecision::add(ExpertId expert, bool low) {
  const auto second = static_cast<ExpertId>(index(expert) + shape_.experts);
  const std::size_t before = items_.size();
  if (options_.policy == MissPolicy::kHobbit) {
    items_.push_back(low ? second : expert);
  } else {
    items_.push_back(expert);
    if (!low) items_.push_back(second);
  }
  experts_.push_back(expert);
  parts_.push_back(static_cast<std::uint8_t>(items_.size() - before));
  runs_.push_back({{}, 0, low});
  low_ += low ? 1 : 0;
}

CacheItems MixedPrecision::items_of(ExpertKey key, bool low) const {
  const ExpertKey first =
      expert_key(layer_of(key, shape_.experts), expert_of(key, shape_.experts), 2 * shape_.experts);
  const auto second = static_cast<ExpertKey>(index(first) + shape_.experts);
  if (options_.policy == MissPolicy::kHobbit) return {{low ? second : first}, 1};
  return {{first, second}, low ? std::size_t{1} : std::size_t{2}};
}

void MixedPrecision::decide(const ExpertCache& cache, LayerId layer,
                            std::span<const ExpertId> best_first, std::span<const double> weights) {
  clear();
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  double above = 0;
  for (std::size_t i = 0; i < best_first.size(); ++i) {
    // Equal shares where every weight has underflowed.
    const double s =
        total > 0 ? above / total : static_cast<double>(i) / static_cast<double>(best_first.size());
    above += weights[i];
    if (full_resident(cache, layer, best_first[i]) || s <= options_.full_until + kSlack) {
      add(best_first[i], false);
    } else if (s <= options_.low_until + kSlack) {
      add(best_first[i], true);
    } else {
      ++skipped_;
    }
  }
}

void MixedPrecision::demand_full(std::span<const ExpertId> experts) {
  clear();
  for (const ExpertId expert : experts) add(expert, false);
}

void MixedPrecision::settle(LayerId layer, const EventOutcome& outcome) {
  const std::size_t base = index(layer) * shape_.experts;
  std::size_t item = 0;
  for (std::size_t i = 0; i < experts_.size(); ++i) {
    const std::size_t key = base + index(experts_[i]);
    ExpertRun& run = runs_[i];
    run.run_bytes = run.low ? low_bytes_[key] : expert_bytes_[key];
    Access access{experts_[i], AccessKind::kHit, seen_[key] == 0, 0};
    seen_[key] = 1;
    for (std::size_t part = 0; part < parts_[i]; ++part, ++item) {
      const Access& of_item = outcome.accesses[item];
      if (of_item.kind == AccessKind::kHit) continue;
      access.kind = AccessKind::kMiss;
      run.read_bytes[part] = item_bytes_[2 * base + index(of_item.expert)];
    }
    accesses_.push_back(access);
  }
}

}  // namespace moesim
