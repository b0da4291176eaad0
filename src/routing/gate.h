// A router's gate applied to one row of logits: the native selection, the score that it ranks by,
// and the weights of any other selection. Everything is computed in double, once per visit, when
// first asked for. Rules: docs/glossary.md, gate codes A to G.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/ids.h"
#include "core/select.h"
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

  // What the visit was set to; empty on a compact visit, and where there is no bias.
  [[nodiscard]] std::span<const float> logits() const { return logits_; }
  [[nodiscard]] std::span<const float> selection_bias() const { return bias_; }

  // True where the weights of a selection are divided by their sum (A, C, E; D unless its spec says
  // otherwise).
  [[nodiscard]] bool renormalises() const;

  // The model's own selection, best first, with the model's weights.
  const Selection& native();
  // The model's weight rule on the original scores, restricted to `ids`; weights[i] for ids[i].
  // F: as if the experts that rank above ids[i] but are not in `ids` did not exist. On a compact
  // visit `ids` must be native, and a gate that renormalises spreads the recorded sum over them.
  // REQUIRES: has_logits() or recorded weights.
  void weights(std::span<const ExpertId> ids, std::span<double> weights);

  // The rest REQUIRES has_logits().

  // [experts]: the score in which the model takes its top k. Raw logits; with a selection bias, or
  // with groups (D), the biased probability (A, B, C) or sigmoid (D, E). F and G know no bias.
  // Experts of groups that group-limited selection excluded have -infinity.
  std::span<const double> ranking();
  // True where ranking() is the raw logits.
  [[nodiscard]] bool ranks_by_logits() const;
  // One of them, without computing the others where it is a logit.
  double ranking_score(ExpertId expert) {
    return ranks_by_logits() ? logits_[index(expert)] : ranking()[index(expert)];
  }
  // Which of the 64 experts from `base` on have at least this ranking score: bit i is base + i.
  std::uint64_t ranked_at_least(double bound, std::size_t base) {
    return ranks_by_logits() ? word_at_least(logits_, not_below(bound), base)
                             : word_at_least(ranking(), bound, base);
  }
  // [experts]: the scores that a selection bias is added to: probabilities() or, for D and E, the
  // sigmoids.
  std::span<const double> selection_scores();
  // The ranking that the model would derive from these scores in the place of selection_scores():
  // adds the selection bias and gives experts of groups that it then excludes -infinity. Both
  // [experts]; they may be the same.
  void rank_scores(std::span<const double> from, std::span<double> ranking);
  // Largest minus smallest finite ranking().
  double ranking_range();
  // Experts that rank before this one, equal scores by lower id: 0 for the best.
  std::size_t rank(ExpertId expert);
  // [experts]: routing probabilities that sum to 1: softmax of the logits for A, B, C, F, G;
  // sigmoid divided by the sum of all sigmoids for D, E.
  std::span<const double> probabilities();
  // p(e) / p(f) style quantities without the sum over all experts: the same as probabilities() up
  // to a factor that is common to the visit. Cheaper where only few experts matter.
  double relative_probability(ExpertId expert);
  // [experts]: all of them.
  std::span<const double> relative_probabilities() { return scores(); }
  // The sum of relative_probability() over all experts.
  double total_relative_probability();

  [[nodiscard]] double logit(ExpertId expert) const { return logits_[index(expert)]; }
  // Largest minus smallest logit.
  double logit_range();

 private:
  void start_visit();
  void compute_ranking();
  void compute_native();
  void exclude_groups(std::span<double> ranking);
  // [experts]: exp(logit - largest) for A, B, C, F, G; sigmoid for D, E.
  std::span<const double> scores();
  double largest_logit();
  // The smallest float that is not below `bound`.
  static float not_below(double bound);
  // True where the native selection needs scores() anyway.
  [[nodiscard]] bool scores_all() const { return spec_.code == GateCode::kB || !ranks_by_logits(); }
  // Scales to the sum `sum_to`; equal shares where every value has underflowed.
  static void spread(std::span<double> values, double sum_to);
  void scale_scores(std::span<const ExpertId> ids, double factor, std::span<double> weights);
  void restricted_softmax(std::span<const ExpertId> ids, std::span<double> weights);
  // exp(logit - largest), computed once per visit for the experts that are asked for.
  double exponential(ExpertId expert);
  void sparse_mixer(std::span<const ExpertId> ids, std::span<double> weights) const;
  void recorded_weights(std::span<const ExpertId> ids, std::span<double> weights) const;

  GateSpec spec_;
  std::size_t experts_;
  std::size_t k_;
  std::span<const float> logits_;
  std::span<const float> bias_;
  bool ranking_ready_ = false;
  bool native_ready_ = false;
  bool scores_ready_ = false;
  bool probabilities_ready_ = false;
  bool logit_range_ready_ = false;
  double scores_sum_ = 0;
  double logit_range_ = 0;
  std::uint32_t visit_ = 0;           // counts visits, to tell which exponentials are of this one
  std::vector<double> exponentials_;  // [experts]
  std::vector<std::uint32_t> exponential_visits_;  // [experts]
  std::vector<double> ranking_;                    // [experts]
  std::vector<double> scores_;                     // [experts]
  std::vector<double> probabilities_;              // [experts]
  std::vector<double> group_scores_;               // [n_group]
  std::vector<std::uint16_t> kept_groups_;         // [topk_group]
  Selection native_;
};

}  // namespace moesim
