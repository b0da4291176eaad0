// Cache-aware dropping (BigMoeOnEdge, --drop-cold-experts): a selected expert that is not resident
// does not run where its share of the weights is below F / k. The best always runs; the weights of
// those that run are scaled to the sum that all had.
#include <algorithm>
#include <cstddef>
#include <span>

#include "routing/routing_policy.h"

namespace moesim {
namespace {

double sum_of(std::span<const double> weights) {
  double sum = 0;
  for (const double weight : weights) sum += weight;
  return sum;
}

class DropCold final : public RoutingPolicy {
 public:
  DropCold(Section& config, const RoutingContext& context)
      : k_(context.k), cold_share_(config.number("F", kNonNegative)) {}

  void route(const RouterVisit& visit, const ResidencyView& residency, Selection& chosen) override {
    const Selection& native = visit.gate.native();
    const double all = sum_of(native.weights);
    // Of a compact trace without weights nothing is asked when F is 0.
    if (cold_share_ == 0 || all <= 0) {
      chosen = native;
      return;
    }
    const double bound = cold_share_ / static_cast<double>(k_) * all;
    const auto best = static_cast<std::size_t>(
        std::max_element(native.weights.begin(), native.weights.end()) - native.weights.begin());
    for (std::size_t i = 0; i < native.ids.size(); ++i) {
      const bool cold = !residency.resident(native.ids[i]) && native.weights[i] < bound;
      if (cold && i != best) continue;
      chosen.ids.push_back(native.ids[i]);
      chosen.weights.push_back(native.weights[i]);
    }
    if (chosen.ids.size() < native.ids.size()) rescale(visit.gate, all, chosen);
  }

  [[nodiscard]] WeightRule weight_rule() const override { return WeightRule::kKeepsNativeSum; }
  [[nodiscard]] std::size_t max_experts() const override { return k_; }
  [[nodiscard]] bool looks_at_residency() const override { return cold_share_ > 0; }
  [[nodiscard]] bool needs_logits() const override { return false; }
  [[nodiscard]] bool needs_weights() const override { return cold_share_ > 0; }

 private:
  static void rescale(Gate& gate, double all, Selection& chosen) {
    gate.weights(chosen.ids, chosen.weights);
    const double kept = sum_of(chosen.weights);
    for (double& weight : chosen.weights) weight *= all / kept;
  }

  std::size_t k_;
  double cold_share_;  // F
};

MOESIM_REGISTER(
    RoutingPolicy, DropCold, "drop_cold",
    About("selected experts that are not resident and weigh less than F / k do not run",
          "BigMoeOnEdge, --drop-cold-experts",
          [](std::size_t) {
            return Json{{"F", 0}};
          }),
    {"F", 0.75,
     "share of the weights, in units of 1 / k, below which an expert that would have to "
     "be read does not run; 0 = top_k",
     "number", "[0, inf)", "BigMoeOnEdge; it reports 0.75 and 1"});

}  // namespace
}  // namespace moesim
