// One budget of experts for all layers of a token, instead of k in each (after Duo-LLM, arXiv
// 2410.10846): of all pairs of layer and expert those B = budget L k run whose probability, which
// sums to 1 over each layer, is largest, but at least k_min and at most k_max in each layer.
//
// It knows the logits of the later layers when the first one is routed: an oracle, not causal in
// depth, and possible only on a trace. The weights are the model's rule on each layer's selection.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/errors.h"
#include "core/select.h"
#include "routing/routing_policy.h"
#include "trace/trace.h"

namespace moesim {
namespace {

class GlobalBudget final : public RoutingPolicy {
 public:
  GlobalBudget(Section& config, const RoutingContext& context)
      : k_(context.k),
        shape_(context.shape),
        trace_(context.trace),
        k_min_(config.integer("k_min", 1, k_)),
        k_max_(config.integer_or("k_max", shape_.experts, k_min_, shape_.experts)),
        budget_(read_budget(config)),
        gate_(context.gate, shape_.experts, k_) {
    if (is_native()) return;
    if (trace_ == nullptr || !trace_->has_logits()) {
      throw config.error(
          "policy", fmt::format("global_budget needs the tensor router_logits of all layers of "
                                "a token, which {} lacks",
                                trace_ == nullptr ? "a run without a trace"
                                                  : "the trace " + trace_->shown()));
    }
    logits_.resize(shape_.experts);
    ranked_.resize(shape_.layers * k_max_);
    counts_.resize(shape_.layers);
    pairs_.reserve(shape_.layers * (k_max_ - k_min_));
    admitted_.resize(ranked_.size());
  }

  void route(const RouterVisit& visit, const ResidencyView& /*residency*/,
             Selection& chosen) override {
    if (is_native()) {
      chosen = visit.gate.native();
      return;
    }
    if (planned_ != visit.token) plan(visit.token);
    const std::size_t layer = index(visit.layer);
    const auto ids = std::span(ranked_).subspan(layer * k_max_, counts_[layer]);
    chosen.ids.assign(ids.begin(), ids.end());
    chosen.weights.resize(ids.size());
    visit.gate.weights(chosen.ids, chosen.weights);
  }

  [[nodiscard]] std::size_t max_experts() const override { return k_max_; }
  [[nodiscard]] bool needs_logits() const override { return !is_native(); }

 private:
  // An expert that competes for what is left of the budget.
  struct Pair {
    double probability;
    std::uint32_t layer;
    std::uint32_t rank;  // in the layer

    // Equal probabilities: the earlier layer, then the better rank.
    static bool before(const Pair& a, const Pair& b) {
      if (a.probability != b.probability) return a.probability > b.probability;
      return a.layer != b.layer ? a.layer < b.layer : a.rank < b.rank;
    }
  };

  [[nodiscard]] std::size_t read_budget(Section& config) const {
    const double per_token = static_cast<double>(shape_.layers * k_);
    const double factor = config.number("budget", kPositive);
    const double least = static_cast<double>(shape_.layers * k_min_) / per_token;
    const double most = static_cast<double>(shape_.layers * k_max_) / per_token;
    if (factor < least || factor > most) {
      throw config.error("budget",
                         fmt::format("expected a number in [{:.6g}, {:.6g}], which k_min and k_max "
                                     "allow, got {:.6g}",
                                     least, most, factor));
    }
    return static_cast<std::size_t>(std::llround(factor * per_token));
  }

  [[nodiscard]] bool is_native() const {
    return k_min_ == k_ && k_max_ == k_ && budget_ == shape_.layers * k_;
  }

  // Decides all layers of a token.
  void plan(std::uint32_t token) {
    planned_ = token;
    pairs_.clear();
    for (std::size_t layer = 0; layer < shape_.layers; ++layer) rank_layer(token, layer);
    const std::size_t left = budget_ - shape_.layers * k_min_;
    if (left < pairs_.size()) {
      const auto end = pairs_.begin() + static_cast<std::ptrdiff_t>(left);
      std::nth_element(pairs_.begin(), end, pairs_.end(), Pair::before);
      pairs_.resize(left);
    }
    std::fill(admitted_.begin(), admitted_.end(), 0);
    for (const Pair& pair : pairs_) admitted_[pair.layer * k_max_ + pair.rank] = 1;
    for (std::size_t layer = 0; layer < shape_.layers; ++layer) compact_layer(layer);
  }

  // The best k_max of a layer, by the gate's ranking; the first k_min run in any case. Experts of
  // excluded groups take no part.
  void rank_layer(std::uint32_t token, std::size_t layer) {
    const auto id = static_cast<LayerId>(layer);
    trace_->read_logits(token, id, logits_);
    gate_.set_logits(logits_, trace_->selection_bias(id));
    const std::span<const double> ranking = gate_.ranking();
    const std::span<const double> probabilities = gate_.probabilities();
    const auto ranked = std::span(ranked_).subspan(layer * k_max_, k_max_);
    select_top_k<double, ExpertId>(ranking, ranked);
    for (std::size_t rank = k_min_; rank < k_max_; ++rank) {
      if (!std::isfinite(ranking[index(ranked[rank])])) break;
      pairs_.push_back({probabilities[index(ranked[rank])], static_cast<std::uint32_t>(layer),
                        static_cast<std::uint32_t>(rank)});
    }
  }

  // Moves what was admitted beyond the first k_min together, in rank order.
  void compact_layer(std::size_t layer) {
    const std::size_t base = layer * k_max_;
    std::size_t count = k_min_;
    for (std::size_t rank = k_min_; rank < k_max_; ++rank) {
      if (admitted_[base + rank] != 0) ranked_[base + count++] = ranked_[base + rank];
    }
    counts_[layer] = count;
  }

  std::size_t k_;
  RoutingShape shape_;
  const Trace* trace_;
  std::size_t k_min_;
  std::size_t k_max_;
  std::size_t budget_;  // pairs per token
  Gate gate_;
  std::optional<std::uint32_t> planned_;  // token
  std::vector<float> logits_;             // [experts]
  std::vector<ExpertId> ranked_;          // [layers, k_max], of the planned token
  std::vector<std::uint8_t> admitted_;    // [layers, k_max]
  std::vector<std::size_t> counts_;       // [layers], experts that run
  std::vector<Pair> pairs_;
};

MOESIM_REGISTER(
    RoutingPolicy, GlobalBudget, "global_budget",
    About("spends one budget of experts per token where the router is surest, over all layers",
          "after Duo-LLM, arXiv 2410.10846, as the reference's 3.10 puts it; not causal in depth",
          [](std::size_t k) {
            return Json{{"budget", 1}, {"k_min", k}, {"k_max", k}};
          }),
    {"budget", 1, "experts of a token in all layers, as a multiple of L k", "number",
     "[k_min/k, k_max/k]", "reference, section 3.10: 1"},
    {"k_min", 1, "fewest experts in a layer", "integer", "[1, k]", "reference, section 3.10"},
    {"k_max", nullptr, "most experts in a layer; null: all of them", "integer", "[k_min, E]",
     "own; the reference sets no limit"});

}  // namespace
}  // namespace moesim
