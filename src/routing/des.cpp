// Dynamic expert skipping over a top 6 (DES, a baseline of CECAR; the ratio rule of arXiv
// 2402.14800 for more than two experts). Of the best six by weight, r1 >= ... >= r6: the last two
// do not run where r4 / r5 > mu1, else the last where r5 / r6 > mu2. mu1 and mu2 are per-layer
// medians of those ratios, so that about half of the visits run 4, a quarter 5 and a quarter 6. It
// starts from six whatever the model's k; `experts` lets the same rule start from another number.
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "routing/plain_weights.h"
#include "routing/rank_order.h"
#include "routing/routing_policy.h"
#include "routing/trace_cells.h"
#include "routing/weight_ranks.h"

namespace moesim {
namespace {

constexpr std::size_t kPublished = 6;  // experts that the rule starts from

constexpr NumberRange kRatio = kNonNegative;

// The experts that the rule starts from, largest weight first.
class Candidates {
 public:
  Candidates(std::size_t count, const RoutingContext& context)
      : count_(count),
        k_(context.k),
        order_(context.shape.experts),
        ranks_(std::max(count, context.k)) {
    best_.reserve(std::max(count, context.k));
  }

  [[nodiscard]] bool beyond_native() const { return count_ > k_; }

  // Fills `chosen` with them and with their weights up to a common factor. Fewer than `count` where
  // a compact cell or the groups of the gate have fewer. Up to k of them are the native ones of
  // largest weight, since a compact trace need not hold them in order.
  void collect(Gate& gate, Selection& chosen) {
    chosen.clear();
    if (beyond_native()) {
      best_.clear();
      for (const ExpertId id : order_.best(gate.ranking(), count_)) {
        best_.ids.push_back(id);
        best_.weights.push_back(gate.relative_probability(id));
      }
    }
    const Selection& from = beyond_native() ? best_ : gate.native();
    for (const std::size_t i : ranks_.by_weight(from)) {
      if (chosen.ids.size() == count_) break;
      chosen.ids.push_back(from.ids[i]);
      chosen.weights.push_back(from.weights[i]);
    }
  }

 private:
  std::size_t count_;
  std::size_t k_;
  RankOrder order_;
  WeightRanks ranks_;
  Selection best_;
};

// r_i / r_(i+1), counted from the end: 0 for the last two weights, 1 for the two before.
double ratio_before_last(std::span<const double> weights, std::size_t from_end) {
  const double larger = weights[weights.size() - 2 - from_end];
  const double smaller = weights[weights.size() - 1 - from_end];
  if (smaller > 0) return larger / smaller;
  return larger > 0 ? std::numeric_limits<double>::infinity() : 1.0;
}

bool has_ratio(std::span<const double> weights, std::size_t from_end) {
  return weights.size() >= 2 + from_end;
}

void require_weights(const Section& config, const RoutingContext& context) {
  if (context.trace == nullptr) {
    throw config.error_here("des needs mu1 and mu2, for there is no trace to take medians of");
  }
  const Trace& trace = *context.trace;
  if (trace.has_logits() || (trace.has_ids() && trace.has_weights())) return;
  throw config.error("policy",
                     "des needs topk_weights, which the trace " + trace.shown() + " lacks");
}

class Des final : public RoutingPolicy {
 public:
  Des(Section& config, const RoutingContext& context)
      : count_(config.integer_or("experts",
                                 std::min<std::size_t>(kPublished, context.shape.experts), 1,
                                 context.shape.experts)),
        candidates_(count_, context),
        last_two_(read_ratios(config, context, "mu1", 1)),
        last_(read_ratios(config, context, "mu2", 0)) {
    if (context.gate.code == GateCode::kF) {
      throw config.error(
          "policy", "des judges ratios of weights, which mean nothing for gate F (SparseMixer)");
    }
  }

  void route(const RouterVisit& visit, const ResidencyView& /*residency*/,
             Selection& chosen) override {
    candidates_.collect(visit.gate, chosen);
    if (chosen.ids.size() == count_) {
      const std::size_t kept = count_ - skipped(visit.layer, chosen.weights);
      chosen.ids.resize(kept);
      chosen.weights.resize(kept);
    }
    to_shares(chosen.weights);
  }

  [[nodiscard]] WeightRule weight_rule() const override { return WeightRule::kRenormalised; }
  [[nodiscard]] std::size_t max_experts() const override { return count_; }
  [[nodiscard]] bool needs_logits() const override { return candidates_.beyond_native(); }
  [[nodiscard]] bool needs_weights() const override { return true; }

 private:
  [[nodiscard]] std::size_t skipped(LayerId layer, std::span<const double> weights) const {
    if (has_ratio(weights, 1) && ratio_before_last(weights, 1) > last_two_[index(layer)]) return 2;
    return has_ratio(weights, 0) && ratio_before_last(weights, 0) > last_[index(layer)] ? 1 : 0;
  }

  // [layers]: as configured, a number for all or one per layer; else medians of the trace.
  std::vector<double> read_ratios(Section& config, const RoutingContext& context,
                                  const std::string& key, std::size_t from_end) {
    const std::size_t layers = context.shape.layers;
    if (!config.has(key)) return medians(config, context, from_end);
    if (!config.raw(key).is_array()) return std::vector(layers, config.number(key, kRatio));
    std::vector<double> ratios = config.numbers(key, kRatio);
    if (ratios.size() == layers) return ratios;
    throw config.error(
        key, fmt::format("expected {} numbers, one per MoE layer, got {}", layers, ratios.size()));
  }

  std::vector<double> medians(const Section& config, const RoutingContext& context,
                              std::size_t from_end) {
    require_weights(config, context);
    if (candidates_.beyond_native() && !context.trace->has_logits()) {
      throw config.error("policy", fmt::format("des needs the tensor router_logits for {} experts "
                                               "of k = {}, which the trace {} lacks",
                                               count_, context.k, context.trace->shown()));
    }
    TraceCells cells(*context.trace, context);
    Selection best;
    std::vector<double> ratios;
    std::vector<double> result;
    result.reserve(context.shape.layers);
    for (std::size_t l = 0; l < context.shape.layers; ++l) {
      ratios.clear();
      cells.for_each(static_cast<LayerId>(l), [&](Gate& gate) {
        candidates_.collect(gate, best);
        if (best.ids.size() == count_ && has_ratio(best.weights, from_end)) {
          ratios.push_back(ratio_before_last(best.weights, from_end));
        }
      });
      result.push_back(median(ratios, std::numeric_limits<double>::infinity()));
    }
    return result;
  }

  std::size_t count_;
  Candidates candidates_;
  std::vector<double> last_two_;  // [layers], mu1
  std::vector<double> last_;      // [layers], mu2
};

// Ratios beyond any that double precision holds but between a weight and none.
constexpr double kNever = std::numeric_limits<double>::max();

MOESIM_REGISTER(
    RoutingPolicy, Des, "des",
    About("of the best six experts, the last two or the last do not run where the weights fall off",
          "DES, baseline of CECAR (github malmong/CECAR), after arXiv 2402.14800",
          [](std::size_t k) {
            return Json{{"experts", k}, {"mu1", kNever}, {"mu2", kNever}};
          }),
    {"experts", nullptr,
     "best experts that the rule starts from; null: 6, or all where there are fewer", "integer",
     "[1, E]", "CECAR; other numbers: own"},
    {"mu1", nullptr,
     "ratio of the weights before the last two above which these do not run: a number or one per "
     "layer; null: the layer's median over the trace's decode tokens",
     "number or array", "[0, inf)", "CECAR"},
    {"mu2", nullptr, "the same for the last two weights and the last expert", "number or array",
     "[0, inf)", "CECAR"});

}  // namespace
}  // namespace moesim
