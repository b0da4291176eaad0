// DynMoLE's hybrid routing (arXiv 2504.00661): an uncertain router, by its Tsallis entropy, runs
// all experts; a certain one those whose cumulative probability stays within P, at least k_min.
// Unlike top_p the expert that crosses P does not run, as in the authors' code. Whether they divide
// the weights by their sum afterwards is not published; the default is not to.
#include <algorithm>
#include <cstddef>
#include <limits>
#include <span>

#include "routing/plain_weights.h"
#include "routing/rank_order.h"
#include "routing/routing_policy.h"
#include "routing/tsallis_entropy.h"

namespace moesim {
namespace {

constexpr double kPublishedThreshold = 0.9;
// The published one as a share of the largest entropy of its 8 experts (reference, section 3.2).
constexpr double kNormalisedThreshold = 0.48;

class TsallisHybrid final : public RoutingPolicy {
 public:
  TsallisHybrid(Section& config, const RoutingContext& context)
      : q_(config.number("q", kPositive)),
        threshold_(read_threshold(config, context.shape.experts)),
        mass_(config.number("P", kUnitInterval)),
        k_min_(config.integer("k_min", 1, context.shape.experts)),
        broadcast_(
            config.integer_or("broadcast_cap", context.shape.experts, 1, context.shape.experts)),
        // The top expert always exceeds a P of 0.
        most_(mass_ > 0 ? context.shape.experts : std::max(k_min_, broadcast_)),
        renormalise_(config.boolean("renormalise")),
        order_(context.shape.experts) {}

  void route(const RouterVisit& visit, const ResidencyView& /*residency*/,
             Selection& chosen) override {
    Gate& gate = visit.gate;
    const std::span<const double> probabilities = gate.probabilities();
    const bool uncertain = tsallis_entropy(probabilities, q_) > threshold_;
    const std::span<const ExpertId> order =
        order_.best(gate.ranking(), uncertain ? broadcast_ : most_);
    const std::size_t count = uncertain ? order.size() : count_within(order, probabilities);
    chosen.ids.assign(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(count));
    if (renormalise_) {
      weigh_by_share(gate, chosen);
    } else {
      weigh_by_probability(gate, chosen);
    }
  }

  [[nodiscard]] WeightRule weight_rule() const override {
    return renormalise_ ? WeightRule::kRenormalised : WeightRule::kProbabilities;
  }
  [[nodiscard]] std::size_t max_experts() const override { return most_; }

 private:
  // In the unit of S_q. Where it is a share of the largest entropy, one expert alone has none.
  static double read_threshold(Section& config, std::size_t experts) {
    const bool normalised = config.boolean("normalised");
    if (!normalised) return config.number_or("threshold", kPublishedThreshold, kNonNegative);
    const double share = config.number_or("threshold", kNormalisedThreshold, kUnitInterval);
    return share * largest_tsallis_entropy(experts, config.number("q", kPositive));
  }

  // Experts whose cumulative probability is at most P; all at P = 1, which rounding must not
  // decide.
  [[nodiscard]] std::size_t count_within(std::span<const ExpertId> order,
                                         std::span<const double> probabilities) const {
    if (mass_ >= 1) return order.size();
    double sum = 0;
    std::size_t count = 0;
    while (count < order.size()) {
      sum += probabilities[index(order[count])];
      if (count >= k_min_ && sum > mass_) break;
      ++count;
    }
    return count;
  }

  double q_;
  double threshold_;
  double mass_;
  std::size_t k_min_;
  std::size_t broadcast_;  // experts of an uncertain router
  std::size_t most_;
  bool renormalise_;
  RankOrder order_;
};

MOESIM_REGISTER(
    RoutingPolicy, TsallisHybrid, "tsallis_hybrid",
    About("all experts run where the router's Tsallis entropy is high, else the best ones within a "
          "share P of the probability",
          "DynMoLE, arXiv 2504.00661",
          [](std::size_t k) {
            return Json{{"P", 0}, {"k_min", k}, {"broadcast_cap", k}};
          }),
    {"q", 1.1, "order of the entropy; 1 = Shannon", "number", "(0, inf)",
     "arXiv 2504.00661; default: the authors' code MoE-PEFT"},
    {"threshold", nullptr,
     "entropy above which all run, in nats, or as a share of the largest where normalised; null: "
     "0.9 or 0.48",
     "number", "[0, inf)",
     "arXiv 2504.00661; default: the authors' code; 0.48: the reference's 3.2"},
    {"normalised", false, "whether the threshold is a share of the largest entropy of E experts",
     "boolean", "true|false", "the reference's 3.2"},
    {"P", 0.75, "probability that the experts of a certain router may hold", "number", "[0, 1]",
     "arXiv 2504.00661; default: the authors' code"},
    {"k_min", 2, "experts of a certain router at least", "integer", "[1, E]",
     "arXiv 2504.00661; default: the authors' code"},
    {"broadcast_cap", nullptr, "experts of an uncertain router at most; null: all", "integer",
     "[1, E]", "own"},
    {"renormalise", false, "whether the weights are divided by their sum", "boolean", "true|false",
     "not published"});

}  // namespace
}  // namespace moesim
