#include "compression/expert_factors.h"

#include <algorithm>
#include <numeric>
#include <span>

#include "routing/gate.h"

namespace moesim {
namespace {

class FactorSums {
 public:
  FactorSums(const Trace& trace, const GateSpec& gate, std::size_t k)
      : trace_(trace),
        gate_(gate, trace.shape().experts, k),
        logits_(trace.has_logits() ? trace.shape().experts : 0),
        ids_(trace.recorded_k()),
        recorded_(trace.recorded_k()),
        counts_(trace.shape().layers * trace.shape().experts),
        weights_(trace.has_logits() || trace.has_weights() ? counts_.size() : 0) {}

  void add(std::size_t token, LayerId layer) {
    const std::size_t base = index(layer) * trace_.shape().experts;
    if (trace_.has_logits()) {
      trace_.read_logits(token, layer, logits_);
      gate_.set_logits(logits_, trace_.selection_bias(layer));
      const std::span<const double> probabilities = gate_.probabilities();
      for (const ExpertId expert : gate_.native().ids) {
        counts_[base + index(expert)] += 1;
        weights_[base + index(expert)] += probabilities[index(expert)];
      }
      return;
    }
    const std::size_t count = std::min(gate_.k(), trace_.read_ids(token, layer, ids_));
    if (trace_.has_weights()) trace_.read_weights(token, layer, recorded_);
    for (std::size_t i = 0; i < count; ++i) {
      counts_[base + index(ids_[i])] += 1;
      if (trace_.has_weights()) weights_[base + index(ids_[i])] += double{recorded_[i]};
    }
  }

  ExpertFactors factors() {
    share_per_layer(counts_);
    share_per_layer(weights_);
    const char* source = trace_.has_logits()
                             ? "router logits: probability among all experts, before any "
                               "renormalisation over the selected"
                         : trace_.has_weights() ? "recorded weights of the selected experts"
                                                : "";
    return {std::move(counts_), std::move(weights_), source};
  }

 private:
  void share_per_layer(std::vector<double>& values) const {
    const std::size_t experts = trace_.shape().experts;
    for (auto at = values.begin(); at != values.end(); at += static_cast<std::ptrdiff_t>(experts)) {
      const auto end = at + static_cast<std::ptrdiff_t>(experts);
      const double sum = std::accumulate(at, end, 0.0);
      if (sum > 0) std::transform(at, end, at, [sum](double value) { return value / sum; });
    }
  }

  const Trace& trace_;
  Gate gate_;
  std::vector<float> logits_;    // [experts]
  std::vector<ExpertId> ids_;    // [recorded k]
  std::vector<float> recorded_;  // [recorded k]
  std::vector<double> counts_;   // [layers, experts]
  std::vector<double> weights_;  // [layers, experts]
};

}  // namespace

ExpertFactors measure_factors(const Trace& trace, const GateSpec& gate, std::size_t k,
                              std::optional<std::size_t> max_tokens) {
  FactorSums sums(trace, gate, k);
  const std::size_t tokens = std::min(trace.shape().tokens, max_tokens.value_or(SIZE_MAX));
  for (std::size_t token = 0; token < tokens; ++token) {
    for (std::size_t layer = 0; layer < trace.shape().layers; ++layer) {
      sums.add(token, static_cast<LayerId>(layer));
    }
  }
  return sums.factors();
}

}  // namespace moesim
