// Sticky routing: the router's probabilities are smoothed over the tokens of a sequence, per layer,
// p~_t = rho p~_{t-1} + (1 - rho) p_t, and the model selects from p~_t. It is the relative, from
// logits alone, of Graph of Tokens (arXiv 2505.00792), whose mixing weights come from attention;
// the rule is the project's, not that paper's. rho = 0 is the model's own routing.
//
// What is smoothed are the scores that the gate selects by: probabilities, or sigmoids for D and E.
// A selection bias and groups then take part as they do in the model. The weights are the model's
// rule on the original scores, restricted to the selection: smoothing decides who runs, not how
// much it counts.
#include <algorithm>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "core/select.h"
#include "routing/routing_policy.h"

namespace moesim {
namespace {

class Sticky final : public RoutingPolicy {
 public:
  Sticky(Section& config, const RoutingContext& context)
      : k_(context.k),
        layers_(context.shape.layers),
        experts_(context.shape.experts),
        rho_(config.number("rho", kUnitInterval)),
        ranking_(experts_) {}

  void route(const RouterVisit& visit, const ResidencyView& /*residency*/,
             Selection& chosen) override {
    Gate& gate = visit.gate;
    if (rho_ == 0) {
      chosen = gate.native();
      return;
    }
    gate.rank_scores(smooth(history(visit.sequence), index(visit.layer), gate), ranking_);
    chosen.ids.resize(k_);
    chosen.weights.resize(k_);
    select_top_k<double, ExpertId>(ranking_, chosen.ids);
    gate.weights(chosen.ids, chosen.weights);
  }

  void begin_sequence(std::int32_t sequence) override {
    if (rho_ > 0) std::fill(history(sequence).begun.begin(), history(sequence).begun.end(), 0);
  }

  [[nodiscard]] std::size_t max_experts() const override { return k_; }
  [[nodiscard]] bool needs_logits() const override { return rho_ > 0; }

 private:
  struct History {
    std::vector<double> smoothed;     // [layers, experts]
    std::vector<std::uint8_t> begun;  // [layers], whether the sequence has been there
  };

  History& history(std::int32_t sequence) {
    History& history = histories_[sequence];
    if (history.begun.empty()) {
      history.begun.resize(layers_);
      history.smoothed.resize(layers_ * experts_);
    }
    return history;
  }

  // A sequence begins with the scores of its first token as they are.
  std::span<const double> smooth(History& history, std::size_t layer, Gate& gate) const {
    const std::span<const double> scores = gate.selection_scores();
    const auto smoothed = std::span(history.smoothed).subspan(layer * experts_, experts_);
    const double keep = history.begun[layer] != 0 ? rho_ : 0.0;
    history.begun[layer] = 1;
    for (std::size_t e = 0; e < experts_; ++e) {
      smoothed[e] = keep * smoothed[e] + (1 - keep) * scores[e];
    }
    return smoothed;
  }

  std::size_t k_;
  std::size_t layers_;
  std::size_t experts_;
  double rho_;
  std::vector<double> ranking_;                // [experts]
  std::map<std::int32_t, History> histories_;  // by sequence, for several may be under way
};

MOESIM_REGISTER(RoutingPolicy, Sticky, "sticky",
                About("selects from probabilities that are smoothed over the tokens of a sequence",
                      "own; the reference's 3.7 names it as the relative of Graph of Tokens, "
                      "arXiv 2505.00792, that needs logits alone",
                      [](std::size_t) {
                        return Json{{"rho", 0}};
                      }),
                {"rho", 0.5, "share of the smoothed probabilities of the token before; 0 = top_k",
                 "number", "[0, 1]", "own"});

}  // namespace
}  // namespace moesim
