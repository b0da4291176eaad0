// What max_rank and cumulative_threshold share (arXiv 2412.00099, algorithms 1 and 2): the best
// keep_top experts always run; then residents inside a window of ranks, in rank order; then
// whatever ranks best. The policies differ in the window alone.
#pragma once

#include <cmath>
#include <cstddef>

#include "config/section.h"
#include "routing/best_experts.h"
#include "routing/keep_top.h"
#include "routing/routing_policy.h"

namespace moesim {

class ResidentPromotion {
 public:
  // Reads keep_top. Throws UserError where it exceeds k.
  ResidentPromotion(Section& config, const RoutingContext& context)
      : k_(context.k), keep_top_(read_keep_top(config, context.k)), candidates_(context.k) {}

  // True where no expert can be promoted, whatever the window.
  [[nodiscard]] bool keeps_all() const { return keep_top_ == k_; }

  // Fills `chosen`. `inside(expert)` tells whether an expert lies inside the window; it is asked of
  // residents beyond the native selection, best first, until it says no.
  template <class Inside>
  void route(const RouterVisit& visit, const ResidencyView& residency, Inside&& inside,
             Selection& chosen) {
    const Selection& native = visit.gate.native();
    if (find_candidates(visit.gate, residency) == 0) {
      chosen = native;
      return;
    }
    std::size_t promoted = 0;
    for (const BestExperts::Entry& candidate : candidates_.entries()) {
      if (!inside(candidate.expert)) break;
      ++promoted;
    }
    arrange(native, residency, promoted, chosen);
    if (promoted > 0) {
      chosen.weights.resize(k_);
      visit.gate.weights(chosen.ids, chosen.weights);
    }
  }

 private:
  // Collects the best residents beyond the native selection, as many as it has places to give, and
  // returns the number of those places.
  std::size_t find_candidates(Gate& gate, const ResidencyView& residency) {
    const Selection& native = gate.native();
    std::size_t places = 0;
    for (std::size_t rank = keep_top_; rank < k_; ++rank) {
      if (!residency.resident(native.ids[rank])) ++places;
    }
    candidates_.start(places);
    if (places == 0) return 0;
    const std::span<const double> ranking = gate.ranking();
    const double last_score = ranking[index(native.ids.back())];
    const std::span<const Residency> states = residency.states();
    double bar = candidates_.bar();
    for (std::size_t e = 0; e < ranking.size(); ++e) {
      // One jump for both: whether an expert is resident is a coin toss to the branch predictor.
      if ((states[e] != Residency::kResident) | (ranking[e] < bar)) continue;
      const bool is_native =
          ranking[e] > last_score || (ranking[e] == last_score && e <= index(native.ids.back()));
      if (is_native || !std::isfinite(ranking[e])) continue;
      candidates_.offer({ranking[e], ExpertId(e), k_});
      bar = candidates_.bar();
    }
    return places;
  }

  // The kept ones, the residents in rank order (promoted ones rank last), the rest in rank order.
  void arrange(const Selection& native, const ResidencyView& residency, std::size_t promoted,
               Selection& chosen) const {
    const auto take = [&](std::size_t rank) {
      chosen.ids.push_back(native.ids[rank]);
      chosen.weights.push_back(native.weights[rank]);
    };
    for (std::size_t rank = 0; rank < keep_top_; ++rank) take(rank);
    for (std::size_t rank = keep_top_; rank < k_; ++rank) {
      if (residency.resident(native.ids[rank])) take(rank);
    }
    for (const auto& candidate : candidates_.entries().first(promoted)) {
      chosen.ids.push_back(candidate.expert);
    }
    for (std::size_t rank = keep_top_; rank < k_ && chosen.ids.size() < k_; ++rank) {
      if (!residency.resident(native.ids[rank])) take(rank);
    }
  }

  std::size_t k_;
  std::size_t keep_top_;
  BestExperts candidates_;
};

}  // namespace moesim
