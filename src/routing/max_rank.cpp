// Max Rank (arXiv 2412.00099, algorithm 1): experts of rank 1 to M that are resident run before
// those that are not; the best keep_top run in any case. M = k is the model's own routing.
#include <algorithm>

#include "routing/keep_top.h"
#include "routing/resident_promotion.h"
#include "routing/routing_policy.h"

namespace moesim {
namespace {

// 12 is what the engines that ship this policy use for k = 8 (reference, section 1.4).
std::size_t read_window(Section& config, const RoutingContext& context) {
  constexpr std::size_t kUsual = 12;
  const std::size_t experts = context.shape.experts;
  return config.integer_or("M", std::clamp(kUsual, context.k, experts), context.k, experts);
}

class MaxRank final : public RoutingPolicy {
 public:
  MaxRank(Section& config, const RoutingContext& context)
      : k_(context.k), window_(read_window(config, context)), promotion_(config, context) {}

  void route(const RouterVisit& visit, const ResidencyView& residency, Selection& chosen) override {
    if (!looks_at_residency()) {
      chosen = visit.gate.native();
      return;
    }
    const auto inside = [&](ExpertId expert) { return visit.gate.rank(expert) < window_; };
    promotion_.route(visit, residency, inside, chosen);
  }

  [[nodiscard]] std::size_t max_experts() const override { return k_; }
  [[nodiscard]] bool looks_at_residency() const override {
    return window_ > k_ && !promotion_.keeps_all();
  }
  [[nodiscard]] bool needs_logits() const override { return looks_at_residency(); }

 private:
  std::size_t k_;
  std::size_t window_;  // ranks
  ResidentPromotion promotion_;
};

MOESIM_REGISTER(RoutingPolicy, MaxRank, "max_rank",
                About("residents among the best M experts run before the others",
                      "arXiv 2412.00099, algorithm 1",
                      [](std::size_t k) {
                        return Json{{"M", k}};
                      }),
                {"M", nullptr,
                 "ranks that may be promoted; k = top_k; null: 12, or the nearest of those",
                 "integer", "[k, E]", "arXiv 2412.00099, algorithm 1; default: colibri"},
                kKeepTop);

}  // namespace
}  // namespace moesim
