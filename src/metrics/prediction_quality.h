// How good the predictions of a run were, apart from what reading ahead by them came to. Formulas:
// docs/metrics.md, block `prefetch`.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cache/expert_cache.h"
#include "core/ids.h"

namespace moesim {

struct PredictionResult {
  double recall = 0;             // mean over layers of the mean over visits
  double precision = 0;          // right ones of all named
  std::uint64_t visits = 0;      // judged
  std::uint64_t predicted = 0;   // visits for which anything was named
  std::uint64_t named = 0;       // experts
  std::uint64_t right = 0;       // experts that were named and ran
  std::vector<double> by_layer;  // [layers], recall
};

class PredictionQuality {
 public:
  explicit PredictionQuality(const RoutingShape& shape);

  // A visit ran `accesses`, `predicted` (distinct) had been named for it.
  void add(LayerId layer, std::span<const Access> accesses, std::span<const ExpertKey> predicted);
  [[nodiscard]] PredictionResult result() const;

 private:
  RoutingShape shape_;
  std::vector<std::uint64_t> stamps_;  // [layers * experts], number of the visit it was named for
  std::vector<double> recall_sums_;    // [layers]
  std::vector<std::uint64_t> visits_;  // [layers]
  std::uint64_t visit_ = 0;
  std::uint64_t predicted_ = 0;
  std::uint64_t named_ = 0;
  std::uint64_t right_ = 0;
};

}  // namespace moesim
