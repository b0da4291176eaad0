// Cache-Prior (arXiv 2412.00099, equations 9 and 10): residents and the best keep_top experts get
// lambda times the layer's usual range of router scores on top, for ranking alone; the weights are
// the model's, of the original scores. lambda = 0 is the model's own routing.
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/errors.h"
#include "routing/best_experts.h"
#include "routing/keep_top.h"
#include "routing/routing_policy.h"

namespace moesim {
namespace {

enum class RangeKind : std::uint8_t {
  kMean,   // the paper: mean over all visits of the layer so far, this one included
  kToken,  // this visit alone
  kEma,    // 0.99 old + 0.01 new, begun with the first
};

constexpr double kEmaStep = 0.01;
constexpr double kRounding = 0x1.0p-50;  // relative; a few roundings of a double

RangeKind read_range(Section& config) {
  const std::string name = config.choice("range", {"mean", "token", "ema"});
  if (name == "mean") return RangeKind::kMean;
  return name == "token" ? RangeKind::kToken : RangeKind::kEma;
}

// The usual range of one layer's scores. Persists across sequences.
struct RangeEstimate {
  double sum = 0;
  double average = 0;
  std::uint64_t visits = 0;

  double update(RangeKind kind, double range) {
    ++visits;
    switch (kind) {
      case RangeKind::kToken:
        return range;
      case RangeKind::kMean:
        sum += range;
        return sum / static_cast<double>(visits);
      case RangeKind::kEma:
        average = visits == 1 ? range : (1 - kEmaStep) * average + kEmaStep * range;
        return average;
    }
    throw InvariantError("unknown kind of range");
  }
};

class CachePrior final : public RoutingPolicy {
 public:
  CachePrior(Section& config, const RoutingContext& context)
      : k_(context.k),
        lambda_(config.number("lambda", kUnitInterval)),
        keep_top_(read_keep_top(config, context.k)),
        range_(read_range(config)),
        softmax_of_logits_(context.gate.code == GateCode::kA || context.gate.code == GateCode::kB ||
                           context.gate.code == GateCode::kC),
        estimates_(context.shape.layers),
        best_(context.k) {}

  void route(const RouterVisit& visit, const ResidencyView& residency, Selection& chosen) override {
    Gate& gate = visit.gate;
    const Selection& native = gate.native();
    if (!looks_at_residency()) {
      chosen = native;
      return;
    }
    bias_ = lambda_ * estimates_[index(visit.layer)].update(range_, gate.ranking_range());
    offer_native(gate, residency);
    offer_residents(gate, residency);
    arrange(gate, chosen);
  }

  // With the bias b on a set of softmax mass P: ln(1 + (e^b - 1) P) - b P. Only where the ranking
  // is the logits that probabilities() is the softmax of.
  [[nodiscard]] std::optional<double> bias_divergence(
      const RouterVisit& visit, const ResidencyView& residency) const override {
    if (!softmax_of_logits_ || visit.gate.spec().selection_bias) return std::nullopt;
    if (!looks_at_residency()) return 0.0;
    const Selection& native = visit.gate.native();
    const std::span<const double> relative = visit.gate.relative_probabilities();
    const std::span<const Residency> states = residency.states();
    double mass = 0;
    for (std::size_t e = 0; e < relative.size(); ++e) {
      mass += states[e] == Residency::kResident ? relative[e] : 0.0;  // a jump would be a coin toss
    }
    for (std::size_t rank = 0; rank < keep_top_; ++rank) {
      if (!residency.resident(native.ids[rank])) mass += relative[index(native.ids[rank])];
    }
    mass /= visit.gate.total_relative_probability();
    return std::log1p(std::expm1(bias_) * mass) - bias_ * mass;
  }

  [[nodiscard]] std::size_t max_experts() const override { return k_; }
  [[nodiscard]] bool looks_at_residency() const override { return lambda_ > 0 && keep_top_ < k_; }
  [[nodiscard]] bool needs_logits() const override { return looks_at_residency(); }

 private:
  // The best keep_top share the bias of any resident, so nothing overtakes them: their places are
  // not open to competition, which also holds where rounding makes biased scores equal.
  void offer_native(Gate& gate, const ResidencyView& residency) {
    const Selection& native = gate.native();
    best_.start(k_ - keep_top_);
    for (std::size_t rank = keep_top_; rank < k_; ++rank) {
      const ExpertId id = native.ids[rank];
      best_.offer({gate.ranking_score(id) + (residency.resident(id) ? bias_ : 0.0), id, rank});
    }
  }

  // Of the experts outside the native selection only residents can enter: the others keep their
  // score, which every native expert matches without its bias. Most cannot overtake the last place
  // even with the bias; the slack makes up for rounding, the offer itself is exact.
  void offer_residents(Gate& gate, const ResidencyView& residency) {
    const double to_beat = best_.entries().back().score;
    const double slack = kRounding * (std::abs(to_beat) + bias_);
    const double bound = to_beat - bias_ - slack;
    for (std::size_t base = 0; base < gate.experts(); base += 64) {
      std::uint64_t word = residency.resident_word(base) & gate.ranked_at_least(bound, base);
      for (const ExpertId id : gate.native().ids) {
        const std::size_t place = index(id) - base;  // far beyond 64 for those of other words
        word &= place < 64 ? ~(std::uint64_t{1} << place) : ~std::uint64_t{0};
      }
      for_each_bit(word, base, [&](std::size_t e) {
        const auto id = static_cast<ExpertId>(e);
        best_.offer({gate.ranking_score(id) + bias_, id, k_});
      });
    }
  }

  void arrange(Gate& gate, Selection& chosen) const {
    const Selection& native = gate.native();
    bool same_set = true;
    const auto take = [&](ExpertId id, std::size_t rank) {
      chosen.ids.push_back(id);
      chosen.weights.push_back(rank < k_ ? native.weights[rank] : 0.0);
      same_set = same_set && rank < k_;
    };
    for (std::size_t rank = 0; rank < keep_top_; ++rank) take(native.ids[rank], rank);
    for (const BestExperts::Entry& entry : best_.entries()) take(entry.expert, entry.native_rank);
    if (!same_set) gate.weights(chosen.ids, chosen.weights);
  }

  std::size_t k_;
  double lambda_;
  std::size_t keep_top_;
  RangeKind range_;
  bool softmax_of_logits_;
  double bias_ = 0;                       // of the last visit
  std::vector<RangeEstimate> estimates_;  // [layers]
  BestExperts best_;
};

MOESIM_REGISTER(
    RoutingPolicy, CachePrior, "cache_prior",
    About("residents get a bonus of lambda times the usual range of the router's scores",
          "Cache-Prior, arXiv 2412.00099, equations 9 and 10",
          [](std::size_t) {
            return Json{{"lambda", 0}};
          }),
    {"lambda", 0.2, "strength of the bonus; 0 = top_k", "number", "[0, 1]",
     "arXiv 2412.00099, equation 9; the default is CECAR's baseline"},
    kKeepTop,
    {"range", "mean",
     "range of the scores: mean (over the visits of the layer so far), token (this visit), ema "
     "(0.99 old + 0.01 new)",
     "string", "mean|token|ema",
     "mean: arXiv 2412.00099, equation 10; token: BigMoeOnEdge; ema: CECAR"});

}  // namespace
}  // namespace moesim
