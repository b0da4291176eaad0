// CECAR, cache and expert co-aware routing (github malmong/CECAR): residents get a bonus on their
// logits, the larger the longer the eviction policy would keep them; the best tau experts of the
// biased ranking run in any case, the others only where they are resident, so that no visit misses
// more than tau. The released code has two paths and `fill` chooses: the real one walks down the
// ranking until k run; the simulated one looks at its first k alone, so that fewer may run.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <optional>
#include <span>
#include <vector>

#include "routing/plain_weights.h"
#include "routing/rank_order.h"
#include "routing/recency.h"
#include "routing/routing_policy.h"
#include "routing/weight_ranks.h"

namespace moesim {
namespace {

constexpr double kEpsilon = 1e-5;         // of the released code
constexpr std::size_t kRealQ = 9;         // its real path takes the logit at position 8
constexpr std::size_t kPublishedTau = 4;  // Qwen3 and OLMoE

std::size_t read_q(Section& config, const RoutingContext& context, bool fill) {
  const std::size_t experts = context.shape.experts;
  return config.integer_or("q", fill ? std::min(kRealQ, experts) : context.k, 1, experts);
}

class Cecar final : public RoutingPolicy {
 public:
  Cecar(Section& config, const RoutingContext& context)
      : k_(context.k),
        fill_(config.boolean("fill")),
        own_recency_(config.choice("score", {"eviction", "lru"}) == "lru"),
        inverted_(config.boolean("inverted_sign")),
        q_(read_q(config, context, fill_)),
        tau_(config.integer_or("tau", std::min(kPublishedTau, k_), 1, k_)),
        softmax_(context.gate.code == GateCode::kA || context.gate.code == GateCode::kB ||
                 context.gate.code == GateCode::kC),
        renormalises_(Gate(context.gate, context.shape.experts, k_).renormalises()),
        recency_(own_recency_ ? context.shape.layers : 0, context.shape.experts),
        scores_(context.shape.experts),
        biased_(context.shape.experts),
        order_(context.shape.experts),
        ranks_(k_) {}

  void route(const RouterVisit& visit, const ResidencyView& residency, Selection& chosen) override {
    Gate& gate = visit.gate;
    if (!looks_at_residency()) {
      keep_native(gate, chosen);
      return;
    }
    add_bonus(gate, residency);
    const std::span<const ExpertId> order = order_.best(biased_, fill_ ? biased_.size() : k_);
    for (std::size_t rank = 0; rank < order.size() && chosen.ids.size() < k_; ++rank) {
      if (rank < tau_ || residency.resident(order[rank])) chosen.ids.push_back(order[rank]);
    }
    weigh(gate, order.first(std::min(k_, order.size())), chosen);
    if (own_recency_) recency_.note(visit.layer, chosen, ranks_.by_weight(chosen));
  }

  [[nodiscard]] WeightRule weight_rule() const override {
    if (fill_) return WeightRule::kRenormalised;
    return renormalises_ ? WeightRule::kShareOfCandidates : WeightRule::kProbabilities;
  }
  [[nodiscard]] std::size_t max_experts() const override { return k_; }
  [[nodiscard]] bool looks_at_residency() const override { return tau_ < k_ || q_ > 1; }
  [[nodiscard]] bool needs_logits() const override { return looks_at_residency(); }

  // ln sum p e^b - sum p b, with the bonus b of each expert.
  [[nodiscard]] std::optional<double> bias_divergence(
      const RouterVisit& visit, const ResidencyView& /*residency*/) const override {
    if (!softmax_ || !visit.gate.ranks_by_logits()) return std::nullopt;
    if (!looks_at_residency()) return 0.0;
    const std::span<const double> probabilities = visit.gate.probabilities();
    double mean = 0;
    double partition = 0;
    for (std::size_t e = 0; e < probabilities.size(); ++e) {
      const double bonus = biased_[e] - visit.gate.logit(ExpertId(e));
      mean += probabilities[e] * bonus;
      partition += probabilities[e] * std::exp(bonus);
    }
    return std::log(partition) - mean;
  }

 private:
  // z' = z + delta alpha, with delta = z_(1) - z_(q) and alpha = 1 - s / (max s + 1e-5) over the
  // scores s of the residents, which must not be negative: others are shifted up.
  void add_bonus(Gate& gate, const ResidencyView& residency) {
    const std::span<const double> ranking = gate.ranking();
    std::copy(ranking.begin(), ranking.end(), biased_.begin());
    const std::span<const ExpertId> best = order_.best(ranking, q_);
    const double delta = ranking[index(best.front())] - ranking[index(best.back())];
    read_scores(residency);
    double lowest = std::numeric_limits<double>::infinity();
    double highest = -std::numeric_limits<double>::infinity();
    for (std::size_t e = 0; e < biased_.size(); ++e) {
      if (!residency.resident(ExpertId(e))) continue;
      lowest = std::min(lowest, scores_[e]);
      highest = std::max(highest, scores_[e]);
    }
    for (std::size_t e = 0; e < biased_.size(); ++e) {
      if (!residency.resident(ExpertId(e))) continue;
      biased_[e] += delta * keep_share(scores_[e], lowest, highest);
    }
  }

  // alpha. The real path of the released code has the sign wrong for lru: it scores by the place in
  // a list whose oldest is 0, so that the oldest gets the whole bonus.
  [[nodiscard]] double keep_share(double score, double lowest, double highest) const {
    const double zero = inverted_ ? highest : std::min(lowest, 0.0);
    const double largest = inverted_ ? highest - lowest : highest - zero;
    const double share = std::abs(score - zero) / (largest + kEpsilon);
    return std::isfinite(share) ? 1 - share : 0.0;  // infinitely soon
  }

  void read_scores(const ResidencyView& residency) {
    if (own_recency_) return recency_.score(residency, scores_);
    for (std::size_t e = 0; e < scores_.size(); ++e) {
      if (residency.resident(ExpertId(e))) scores_[e] = residency.eviction_score(ExpertId(e));
    }
  }

  // With neither a bonus nor a rank beyond tau; on a compact trace, by what it recorded.
  void keep_native(Gate& gate, Selection& chosen) const {
    chosen = gate.native();
    if (gate.has_logits()) {
      weigh(gate, chosen.ids, chosen);
    } else if (fill_ || renormalises_) {
      to_shares(chosen.weights);
    }
  }

  // The simulated path divides by the sum over all k candidates where the model renormalises at
  // all, so that the mass of those that do not run is lost.
  void weigh(Gate& gate, std::span<const ExpertId> candidates, Selection& chosen) const {
    if (fill_) return weigh_by_share(gate, chosen);
    if (!renormalises_) return weigh_by_probability(gate, chosen);
    chosen.weights.clear();
    double all = 0;
    for (const ExpertId id : candidates) all += gate.relative_probability(id);
    for (const ExpertId id : chosen.ids) {
      const double weight = gate.relative_probability(id);
      chosen.weights.push_back(all > 0 ? weight / all : 1.0 / static_cast<double>(k_));
    }
  }

  std::size_t k_;
  bool fill_;
  bool own_recency_;
  bool inverted_;
  std::size_t q_;
  std::size_t tau_;
  bool softmax_;
  bool renormalises_;
  Recency recency_;
  std::vector<double> scores_;  // [experts], of the residents
  std::vector<double> biased_;  // [experts], z' of the last visit
  RankOrder order_;
  WeightRanks ranks_;
};

MOESIM_REGISTER(
    RoutingPolicy, Cecar, "cecar",
    About("residents get a bonus by how long they would stay; beyond the best tau only residents "
          "run",
          "CECAR, github malmong/CECAR",
          [](std::size_t k) {
            return Json{{"tau", k}, {"q", 1}};
          }),
    {"tau", nullptr, "best experts of the biased ranking that always run; null: 4, at most k",
     "integer", "[1, k]", "CECAR: 4 for Qwen3 and OLMoE, 3 for DeepSeek"},
    {"q", nullptr,
     "the bonus is the gap between the best and the q-th best logit; 1 = none; null: 9 with fill, "
     "else k",
     "integer", "[1, E]", "CECAR: 9 in the real path, k in the simulated one"},
    {"fill", true,
     "true: down the ranking until k run, weights renormalised over them; false: only the first k "
     "of the ranking are looked at, weights lose the mass of those that do not run",
     "boolean", "true|false", "CECAR: real path, simulated path"},
    {"score", "eviction",
     "what tells how soon a resident would leave: eviction (the score of the cache's own policy) "
     "or lru (its place in the order of recency of the tokens routed so far)",
     "string", "eviction|lru", "CECAR, --cache-policy"},
    {"inverted_sign", false,
     "true: the resident that would leave first gets the whole bonus, as in the real path for lru",
     "boolean", "true|false", "CECAR: defect of the real path"});

}  // namespace
}  // namespace moesim
