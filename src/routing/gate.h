// A router's gate applied to one row of logits: the native selection, the score that it ranks by,
// and the weights of any other selection. Everything is computed in double, once per visit, when
// first asked for. Rules: docs/glossary.md, gate codes A to G.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/ids.h"
#include "model/gate_spec.h"
#include "routing/selection.h"

namespace moesim {

class Gate {
 public:
  // `k`: experts of the native selection. Throws UserError where the gate fixes another k
  // (F: 2, G: 1) or k > experts.
  Gate(const GateSpec& spec, std::size_t experts, std::size_t k);

  // Starts a visit with router logits [experts] and the layer's static selection bias ([experts]
  // or empty). The spans must stay valid until the next set_*().
  void set_logits(std::span<const float> logits, std::span<const float> selection_bias);
  // Starts a visit of a compact trace: the first min(k, ids.size()) recorded experts are the native
  // selection. `weights` may be empty.
  void set_recorded(std::span<const ExpertId> ids, std::span<const float> weights);

  [[nodiscard]] const GateSpec& spec() const { return spec_; }
  [[nodiscard]] std::size_t experts() const { return experts_; }
  [[nodiscard]] std::size_t k() const { return k_; }
  [[nodiscard]] bool has_logits() const { return !logits_.empty(); }

  // The model's own selection, best first, with the model's weights.
  const Selection& native();

  // The rest REQUIRES has_logits().

  // [experts]: the score in which the model takes its top k. Raw logits for A, B, C, E, F, G; with
  // a selection bias, or for D, the biased probability (A, B, C) or sigmoid (D). Experts of groups
  // that group-limited selection excluded have -infinity.
  std::span<const double> ranking();
  // [experts]: routing probabilities that sum to 1: softmax of the logits for A, B, C, F, G;
  // sigmoid divided by the sum of all sigmoids for D, E.
  std::span<const double> probabilities();
  // p(e) / p(f) style quantities without the sum over all experts: the same as probabilities() up
  // to a factor that is common to the visit. Cheaper where only few experts matter.
  double relative_probability(ExpertId expert);
  // The model's weight rule on the original scores, restricted to `ids`; weights[i] for ids[i].
  void weights(std::span<const ExpertId> ids, std::span<double> weights);

 private:
  void compute_ranking();
  void compute_native();

  GateSpec spec_;
  std::size_t experts_;
  std::size_t k_;
  std::span<const float> logits_;
  std::span<const float> bias_;
  bool ranking_ready_ = false;
  bool native_ready_ = false;
  bool probabilities_ready_ = false;
  double largest_ = 0;                 // of the logits; subtracted before exp
  std::vector<double> ranking_;        // [experts]
  std::vector<double> probabilities_;  // [experts]
  std::vector<double> group_scores_;   // [n_group]
  std::vector<std::uint16_t> scratch_;
  Selection native_;
};

}  // namespace moesim
