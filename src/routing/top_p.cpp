// Top-p routing (Harder Tasks Need More Experts, arXiv 2403.07652): as many experts as it takes to
// hold a share P of the router's probability, so that a confident router runs few. As in the
// authors' code the cumulative probability must exceed P and the expert that crosses it runs;
// weights are the probabilities as they are. The paper trains models for this rule; on one that was
// trained for a fixed k the softmax may be flat, hence the floor and the cap.
#include <cstddef>
#include <span>

#include "routing/plain_weights.h"
#include "routing/rank_order.h"
#include "routing/routing_policy.h"
#include "routing/top_p_count.h"

namespace moesim {
namespace {

class TopP final : public RoutingPolicy {
 public:
  TopP(Section& config, const RoutingContext& context)
      : mass_(config.number("P", kNonNegative)),
        k_min_(config.integer("k_min", 1, context.shape.experts)),
        k_max_(config.integer_or("k_max", context.shape.experts, k_min_, context.shape.experts)),
        order_(context.shape.experts) {}

  void route(const RouterVisit& visit, const ResidencyView& /*residency*/,
             Selection& chosen) override {
    Gate& gate = visit.gate;
    const std::span<const ExpertId> order = order_.best(gate.ranking(), k_max_);
    const std::size_t count = top_p_count(order, gate.probabilities(), mass_, k_min_);
    chosen.ids.assign(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(count));
    weigh_by_probability(gate, chosen);
  }

  [[nodiscard]] WeightRule weight_rule() const override { return WeightRule::kProbabilities; }
  [[nodiscard]] std::size_t max_experts() const override { return k_max_; }

 private:
  double mass_;
  std::size_t k_min_;
  std::size_t k_max_;
  RankOrder order_;
};

MOESIM_REGISTER(RoutingPolicy, TopP, "top_p",
                About("the fewest experts that hold more than a share P of the probability run",
                      "top-p routing, arXiv 2403.07652, as in the code Dynamic_MoE",
                      [](std::size_t k) {
                        return Json{{"P", 1}, {"k_max", k}};
                      }),
                {"P", 0.4, "probability that those who run must exceed; 1 or more = k_max experts",
                 "number", "[0, inf)", "arXiv 2403.07652; default: its code"},
                {"k_min", 1, "experts that run at least", "integer", "[1, E]", "own"},
                {"k_max", nullptr, "experts that run at most; null: all", "integer", "[k_min, E]",
                 "own"});

}  // namespace
}  // namespace moesim
