// Balancing without an auxiliary loss, as dual ascent (arXiv 2512.03915; the sign rule is
// DeepSeek-V3's). The model selects the top k of gamma_e + b_e, gamma the scores of its gate; after
// each window of T tokens the prices b of a layer move by how far its loads A_e are from what they
// should be. The weights never contain b.
//
// balance: E rows, A_e = B with B = k T / E; b_e += u sign(B - A_e), or eta (B - A_e). A static
// bias of the checkpoint is where b starts, so that u = 0 is the model's own routing, groups
// included.
//
// residency: the memory system is the capacity. One row per layer: the selected experts that are
// not resident, A, should be at most B = misses T. Its price b >= 0 is what a resident expert has
// more; it rises while too many are missing and falls again: b = max(0, b + u sign(A - B)). That
// one row takes the place of E rows is the project's reading of the reference's 3.5 (b).
//
// Gates: gamma is the softmax for A, B, C, F and G, the sigmoid for D and E.
#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/select.h"
#include "routing/routing_policy.h"

namespace moesim {
namespace {

double sign(double value) { return value > 0 ? 1.0 : value < 0 ? -1.0 : 0.0; }

class SelectionBias final : public RoutingPolicy {
 public:
  SelectionBias(Section& config, const RoutingContext& context)
      : k_(context.k),
        experts_(context.shape.experts),
        by_residency_(config.choice("target", {"balance", "residency"}) == "residency"),
        by_sign_(config.choice("rule", {"sign", "gradient"}) == "sign"),
        window_(config.integer("window", 1)) {
    const double u = config.number("u", kNonNegative);
    const double eta = config.number("eta", kNonNegative);
    step_ = by_sign_ ? u : eta;
    const auto tokens = static_cast<double>(window_);
    const auto k = static_cast<double>(k_);
    const double misses = config.number_or("misses", k / 4, {0.0, k});
    capacity_ = by_residency_ ? misses * tokens : k * tokens / static_cast<double>(experts_);
    const std::size_t rows = by_residency_ ? 1 : experts_;
    layers_.assign(context.shape.layers,
                   {0, false, std::vector<double>(rows), std::vector<std::uint64_t>(rows)});
    ranking_.resize(experts_);
  }

  void route(const RouterVisit& visit, const ResidencyView& residency, Selection& chosen) override {
    if (step_ == 0) {
      chosen = visit.gate.native();
      return;
    }
    Layer& layer = layers_[index(visit.layer)];
    select(layer, visit.gate, residency, chosen);
    for (const ExpertId id : chosen.ids) {
      if (!by_residency_) ++layer.loads[index(id)];
      if (by_residency_ && !residency.resident(id)) ++layer.loads.front();
    }
    if (++layer.visits == window_) ascend(layer);
  }

  [[nodiscard]] std::size_t max_experts() const override { return k_; }
  [[nodiscard]] bool looks_at_residency() const override { return by_residency_ && step_ > 0; }
  [[nodiscard]] bool needs_logits() const override { return step_ > 0; }

 private:
  struct Layer {
    std::uint64_t visits = 0;          // of this window
    bool moved = false;                // some price differs from 0
    std::vector<double> prices;        // [rows]
    std::vector<std::uint64_t> loads;  // [rows], of this window
  };

  void select(const Layer& layer, Gate& gate, const ResidencyView& residency, Selection& chosen) {
    if (!layer.moved) {
      chosen = gate.native();
      return;
    }
    const std::span<const double> scores = gate.selection_scores();
    for (std::size_t e = 0; e < experts_; ++e) {
      const double resident_price =
          residency.states()[e] == Residency::kResident ? layer.prices.front() : 0.0;
      ranking_[e] = scores[e] + (by_residency_ ? resident_price : layer.prices[e]);
    }
    gate.rank_scores(ranking_, ranking_);
    chosen.ids.resize(k_);
    chosen.weights.resize(k_);
    select_top_k<double, ExpertId>(ranking_, chosen.ids);
    gate.weights(chosen.ids, chosen.weights);
  }

  void ascend(Layer& layer) const {
    for (std::size_t row = 0; row < layer.prices.size(); ++row) {
      const double missing = capacity_ - static_cast<double>(layer.loads[row]);
      const double move = step_ * (by_sign_ ? sign(missing) : missing);
      double& price = layer.prices[row];
      price = by_residency_ ? std::max(0.0, price - move) : price + move;
      layer.loads[row] = 0;
    }
    layer.visits = 0;
    layer.moved = std::any_of(layer.prices.begin(), layer.prices.end(),
                              [](double price) { return price != 0; });
  }

  std::size_t k_;
  std::size_t experts_;
  bool by_residency_;
  bool by_sign_;
  std::uint64_t window_;
  double step_ = 0;
  double capacity_ = 0;          // of a row over a window
  std::vector<Layer> layers_;    // [layers]
  std::vector<double> ranking_;  // [experts]
};

MOESIM_REGISTER(
    RoutingPolicy, SelectionBias, "selection_bias",
    About("a bias on the scores, for selection alone, learns to balance loads or to spare reads",
          "DeepSeek-V3's loss-free balancing as dual ascent, arXiv 2512.03915",
          [](std::size_t) {
            return Json{{"u", 0}};
          }),
    {"target", "balance",
     "balance: equal loads of all experts; residency: at most `misses` experts per token and "
     "layer that are not resident",
     "string", "balance|residency", "arXiv 2512.03915; residency: own, after the reference's 3.5"},
    {"rule", "sign", "sign: a step of u either way; gradient: eta for each token of the difference",
     "string", "sign|gradient", "sign: DeepSeek-V3; gradient: arXiv 2512.03915"},
    {"u", 0.001, "step of the sign rule, in units of the scores; 0 = top_k", "number", "[0, inf)",
     "DeepSeek-V3"},
    {"eta", 0.0001, "step of the gradient rule, per token of difference; 0 = top_k", "number",
     "[0, inf)", "arXiv 2512.03915; the default is own"},
    {"window", 128, "tokens between two updates of a layer", "integer", "[1, inf)", "own"},
    {"misses", nullptr,
     "experts per token and layer that the memory can serve beside the resident ones; null: k / 4",
     "number", "[0, k]", "own"});

}  // namespace
}  // namespace moesim
