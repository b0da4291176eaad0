// How far the executed experts are from the model's own choice, by the proxies of the reference
// (cache_aware_routing.md, section 5; docs/metrics.md). These are divergences of routing: they rank
// policies on one model and say nothing absolute about the quality of its output.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/ids.h"
#include "routing/gate.h"
#include "routing/selection.h"

namespace moesim {

// Means over visits (one token at one layer). S: native set, S~: executed set, p: routing
// probability (recorded weight on a compact trace), g, g~: p renormalised over S and over S~.
// A proxy is absent where some visit did not have what it needs.
struct RoutingProxies {
  std::uint64_t visits = 0;
  double experts = 0;                            // |S~|
  double agreement = 1;                          // |S n S~| / |S|
  std::optional<double> retained_mass;           // sum_{S~} p / sum_S p
  std::optional<double> retained_mass_absolute;  // sum_{S~} p; needs logits
  std::optional<double> dropped_mass;            // sum_{S \ S~} p / sum_S p
  std::optional<double> skipped_mass;            // dropped mass of visits that added nothing
  std::optional<double> total_variation;         // 1/2 sum |g - g~|
  std::optional<double> jensen_shannon;          // of g and g~, natural logarithm
  std::optional<double> gate_l2;                 // ||g - g~|| / ||g||
  std::optional<double> logit_regret;            // sum_S z - sum_{S~} z; needs |S~| = |S|, logits
  std::optional<double> logit_range;             // max z - min z; needs logits
  std::optional<double> bias_divergence;         // see RoutingPolicy::bias_divergence
  // max_e A_e / B - 1, A_e how often expert e of a layer ran, B the mean of that over its experts;
  // of all layers: the mean over those that were visited.
  double load_violation = 0;
};

struct RoutingQualityResult {
  RoutingProxies mean;
  std::vector<RoutingProxies> by_layer;  // [layers]
  // 95th percentiles over visits, nearest rank: element ceil(0.95 n) of the sorted values.
  std::optional<double> p95_dropped_mass;
  std::optional<double> p95_jensen_shannon;
  std::optional<double> p95_gate_l2;
  std::uint64_t added = 0;    // executed, not native: the swaps where |S~| is always |S|
  std::uint64_t removed = 0;  // native, not executed
  std::vector<std::uint64_t> displaced_by_rank;  // [k], of native rank r, not executed
  std::vector<std::uint64_t> promoted_by_rank;   // [experts], of rank r >= k, executed
  std::vector<std::uint64_t> experts_histogram;  // [max_experts + 1], visits that ran n experts
};

// Not for prefill. Visits whose executed set is the native one take a short way: their proxies are
// exactly 1 and 0.
//
// On a compact trace the recorded weights of the native set stand for p, so that an executed expert
// must be native. Without recorded weights only counts and agreement exist, unless the sets are
// always equal.
class RoutingQuality {
 public:
  // `max_experts`: the most that the policy executes. `visits`: room is reserved for so many, so
  // that add() does not allocate; more are taken too. `absolute_mass`: whether to compute
  // retained_mass_absolute, which takes a softmax over all experts in every visit.
  RoutingQuality(RoutingShape shape, std::size_t k, std::size_t max_experts, std::size_t visits,
                 bool absolute_mass = true);

  // `gate` is set to the visit. Throws InvariantError for an executed expert outside the native
  // set of a compact trace.
  void add(LayerId layer, Gate& gate, const Selection& executed);
  // The bias divergence of the visit added last.
  void add_bias_divergence(LayerId layer, double divergence);
  // Forgets everything added so far: the end of the warm-up.
  void start();

  [[nodiscard]] RoutingQualityResult result() const;

 private:
  struct Sums {
    std::uint64_t visits = 0;
    std::uint64_t experts = 0;
    std::uint64_t unweighed = 0;      // visits with neither probabilities nor equal sets
    std::uint64_t without_total = 0;  // visits without an absolute mass
    std::uint64_t without_regret = 0;
    std::uint64_t without_range = 0;
    std::uint64_t divergences = 0;
    double agreement = 0;
    double retained_mass = 0;
    double retained_mass_absolute = 0;
    double dropped_mass = 0;
    double skipped_mass = 0;
    double total_variation = 0;
    double jensen_shannon = 0;
    double gate_l2 = 0;
    double logit_regret = 0;
    double logit_range = 0;
    double bias_divergence = 0;

    void operator+=(const Sums& other);
    [[nodiscard]] RoutingProxies means() const;
  };
  // Of one visit: each native expert, then each executed one that is not native.
  struct Member {
    ExpertId expert{};
    double mass = 0;
    bool executed = false;
  };

  // Fills union_ and returns the number of native experts that were executed.
  std::size_t gather(const Selection& native, const Selection& executed);
  void count_changes(std::size_t native_experts, Gate& gate);
  bool weigh(std::size_t native_experts, Gate& gate);
  void add_masses(std::size_t native_experts, Sums& sums);
  void add_logits(std::size_t native_experts, Gate& gate, double total, Sums& sums);
  [[nodiscard]] double load_violation(std::size_t layer) const;
  [[nodiscard]] std::optional<double> p95(std::span<const double> nonzero) const;

  RoutingShape shape_;
  bool absolute_mass_;
  std::vector<Sums> sums_;               // [layers]
  std::vector<Member> union_;            // of the visit
  std::vector<std::uint64_t> loads_;     // [layers, experts], how often each ran
  std::vector<std::uint8_t> is_native_;  // [experts], in add(): 1 native, 2 native and executed
  // Values per visit that differ from 0, for the percentiles.
  std::vector<double> dropped_masses_;
  std::vector<double> divergences_;
  std::vector<double> gate_l2s_;
  RoutingQualityResult counts_;  // integers only
};

}  // namespace moesim
