// Bounded-regret swaps (k3-out-of-core, setting S2_P50 of Kimi-K3): a selected expert that is not
// resident gives its place to a resident one of the best `candidates`, where the router's score
// loses at most `regret`, at most `max_swaps` times in a visit. Weights follow the gate's rule.
//
// The source does not say which pairs are tried first. Here the cheapest: the lowest selected
// expert that is missing against the highest resident that was not selected, then the next of both.
#include <algorithm>
#include <cstddef>
#include <span>

#include "routing/rank_order.h"
#include "routing/routing_policy.h"

namespace moesim {
namespace {

class BoundedRegret final : public RoutingPolicy {
 public:
  BoundedRegret(Section& config, const RoutingContext& context)
      : k_(context.k),
        candidates_(config.integer_or("candidates", std::min(2 * k_, context.shape.experts), k_,
                                      context.shape.experts)),
        max_swaps_(config.integer("max_swaps")),
        regret_(config.number("regret", kNonNegative)),
        by_logit_(config.choice("score", {"probability", "logit"}) == "logit"),
        order_(context.shape.experts) {}

  void route(const RouterVisit& visit, const ResidencyView& residency, Selection& chosen) override {
    chosen = visit.gate.native();
    if (!looks_at_residency() || swap(visit.gate, residency, chosen) == 0) return;
    visit.gate.weights(chosen.ids, chosen.weights);
  }

  [[nodiscard]] std::size_t max_experts() const override { return k_; }
  [[nodiscard]] bool looks_at_residency() const override {
    return max_swaps_ > 0 && candidates_ > k_;
  }
  [[nodiscard]] bool needs_logits() const override { return looks_at_residency(); }

 private:
  std::size_t swap(Gate& gate, const ResidencyView& residency, Selection& chosen) {
    const std::span<const ExpertId> order = order_.best(gate.ranking(), candidates_);
    std::size_t swaps = 0;
    std::size_t next = k_;  // rank of the candidate to try
    for (std::size_t rank = k_; rank-- > 0 && swaps < max_swaps_;) {
      if (residency.resident(chosen.ids[rank])) continue;
      while (next < order.size() && !residency.resident(order[next])) ++next;
      if (next == order.size()) break;
      // By the score that the router ranks by, later pairs lose at least as much; by the logit
      // they need not where a bias or groups decide the rank.
      if (score(gate, chosen.ids[rank]) - score(gate, order[next]) > regret_) {
        if (!by_logit_) break;
        continue;
      }
      chosen.ids[rank] = order[next++];
      ++swaps;
    }
    return swaps;
  }

  // What the router compares: the softmax probability or the sigmoid, with the selection bias
  // where there is one; or the logit that it is made from.
  [[nodiscard]] double score(Gate& gate, ExpertId expert) const {
    if (by_logit_) return gate.logit(expert);
    if (!gate.ranks_by_logits()) return gate.ranking_score(expert);
    const GateCode code = gate.spec().code;
    const bool by_sigmoid = code == GateCode::kD || code == GateCode::kE;
    return by_sigmoid ? gate.relative_probability(expert) : gate.probabilities()[index(expert)];
  }

  std::size_t k_;
  std::size_t candidates_;
  std::size_t max_swaps_;
  double regret_;
  bool by_logit_;
  RankOrder order_;
};

MOESIM_REGISTER(
    RoutingPolicy, BoundedRegret, "bounded_regret",
    About("a missing expert gives way to a resident one that scores almost as well, a few times a "
          "visit",
          "bounded-regret swaps of Kimi-K3 S2_P50, github murillo128/k3-out-of-core",
          [](std::size_t) {
            return Json{{"max_swaps", 0}};
          }),
    {"candidates", nullptr, "best experts that may come in; null: 2 k", "integer", "[k, E]",
     "k3-out-of-core: 32 for k = 16"},
    {"max_swaps", 2, "swaps in a visit at most; 0 = top_k", "integer", "[0, inf)",
     "k3-out-of-core"},
    {"regret", 0.0073038, "router score that a swap may lose", "number", "[0, inf)",
     "k3-out-of-core"},
    {"score", "probability",
     "probability (what the router compares: softmax or sigmoid, biased where it has a selection "
     "bias) or logit",
     "string", "probability|logit", "own: the source says router score"});

}  // namespace
}  // namespace moesim
