// Online dynamic pruning (MC-MoE, arXiv 2410.06270, equation 5): a selected expert does not run
// where its weight, as a share of the best expert's, is below a threshold. The paper has two
// experts; here each rank beyond the best has a threshold and is judged on its own. Important
// tokens can be protected where they stand for a prompt; in single-token decode nothing is.
#include <cstddef>
#include <span>
#include <vector>

#include "routing/odp_protection.h"
#include "routing/odp_thresholds.h"
#include "routing/routing_policy.h"
#include "routing/weight_ranks.h"

namespace moesim {
namespace {

class Odp final : public RoutingPolicy {
 public:
  Odp(Section& config, const RoutingContext& context)
      : k_(context.k),
        thresholds_(read_odp_thresholds(config, context)),
        protection_(config, context),
        ranks_(context.k) {}

  void route(const RouterVisit& visit, const ResidencyView& /*residency*/,
             Selection& chosen) override {
    const Selection& native = visit.gate.native();
    if (protection_.covers(visit.token, visit.layer)) {
      chosen = native;
      return;
    }
    const std::span<const std::size_t> ranks = ranks_.by_weight(native);
    const double best = native.weights[ranks.front()];
    for (std::size_t r = 0; r < ranks.size(); ++r) {
      const double weight = native.weights[ranks[r]];
      if (r > 0 && weight_ratio(weight, best) < threshold(visit.layer, r)) continue;
      chosen.ids.push_back(native.ids[ranks[r]]);
      chosen.weights.push_back(weight);
    }
    if (chosen.ids.size() < native.ids.size()) visit.gate.weights(chosen.ids, chosen.weights);
  }

  [[nodiscard]] std::size_t max_experts() const override { return k_; }
  [[nodiscard]] bool needs_logits() const override { return false; }
  [[nodiscard]] bool needs_weights() const override { return true; }

 private:
  [[nodiscard]] double threshold(LayerId layer, std::size_t rank) const {
    return thresholds_[index(layer) * (k_ - 1) + rank - 1];
  }

  std::size_t k_;
  std::vector<double> thresholds_;  // [layers, k - 1]
  OdpProtection protection_;
  WeightRanks ranks_;
};

MOESIM_REGISTER(
    RoutingPolicy, Odp, "odp",
    About("experts whose weight is small beside the best expert's do not run",
          "MC-MoE online dynamic pruning, arXiv 2410.06270, equation 5",
          [](std::size_t) {
            return Json{{"mu", 0}};
          }),
    {"mu", nullptr,
     "smallest share of the best weight that runs: a number, one per layer, or [layers] "
     "[k - 1]; absent: see thresholds",
     "number or array", "[0, 1]", "arXiv 2410.06270, equation 5; per rank: the reference's 1.2"},
    {"thresholds", nullptr,
     "\"per-rank median\" of the trace's decode tokens (what an absent mu means), \"published\" "
     "(Mixtral-8x7B), or arrays as for mu; not together with mu",
     "string or array", "per-rank median|published",
     "arXiv 2402.14800, as used by arXiv 2410.06270; published: code MC-MoE"},
    {"blocks", "all",
     "layers where experts may be dropped: all, ten or twenty (Mixtral-8x7B), or a list of layers",
     "string or array", "all|ten|twenty", "code MC-MoE, block_range; lists: own"},
    {"protect", "none",
     "form of the tokens' importance: none, paper (size times attention received) or code (size "
     "alone); without as_prompt nothing is protected",
     "string", "none|paper|code", "arXiv 2410.06270, equation 6; code MC-MoE"},
    {"as_prompt", false,
     "true: the decoded tokens of each sequence stand for a prompt that is processed at once",
     "boolean", "true|false", "own: the code protects where more than one token is processed"},
    {"protect_share", 0.02, "share of a sequence's tokens that keep all their experts in a layer",
     "number", "[0, 1]", "arXiv 2410.06270, text of equation 6"});

}  // namespace
}  // namespace moesim
