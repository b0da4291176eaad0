// How far the executed experts are from the model's own choice, by the proxies of the reference
// (cache_aware_routing.md, section 5; docs/metrics.md). These are divergences of routing: they rank
// policies on one model and say nothing absolute about the quality of its output.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "core/ids.h"
#include "metrics/upper_tail.h"
#include "routing/gate.h"
#include "routing/selection.h"

namespace moesim {

// One statistic over visits (one token at one layer). S: native set, S~: executed set, p: routing
// probability (recorded weight on a compact trace), g, g~: p renormalised over S and over S~, z:
// router logits. A proxy is absent where some visit did not have what it needs.
struct RoutingProxies {
  std::uint64_t visits = 0;
  double experts = 0;                            // |S~|
  double agreement = 1;                          // |S n S~| / |S|
  double swap_rate = 0;                          // 1 - agreement
  std::optional<double> retained_mass;           // sum_{S~} p / sum_S p
  std::optional<double> retained_mass_absolute;  // sum_{S~} p; needs logits
  std::optional<double> dropped_mass;            // sum_{S \ S~} p / sum_S p
  std::optional<double> skipped_mass;            // dropped mass of visits that added nothing
  std::optional<double> total_variation;         // 1/2 sum |g - g~|
  std::optional<double> jensen_shannon;          // of g and g~, natural logarithm
  std::optional<double> gate_l2;                 // ||g - g~|| / ||g||
  std::optional<double> logit_regret;            // sum_S z - sum_{S~} z; needs |S~| = |S|, logits
  std::optional<double> logit_range;             // max z - min z; needs logits
  std::optional<double> logit_regret_over_mean_range;  // logit_regret / mean logit_range
  std::optional<double> bias_divergence;               // see RoutingPolicy::bias_divergence
};

struct RoutingQualityResult {
  RoutingProxies mean;
  // 95th percentile of each proxy by nearest rank: element ceil(0.95 n) of the sorted values.
  RoutingProxies p95;
  std::vector<RoutingProxies> by_layer;          // [layers], means
  std::vector<RoutingProxies> p95_by_layer;      // [layers]
  std::uint64_t added = 0;                       // executed, not native: the swaps where |S~| = |S|
  std::uint64_t removed = 0;                     // native, not executed
  std::vector<std::uint64_t> displaced_by_rank;  // [k], of native rank r, not executed
  std::vector<std::uint64_t> promoted_by_rank;   // [experts], of rank r >= k, executed
  std::vector<std::uint64_t> experts_histogram;  // [max_experts + 1], visits that ran n experts
  // max_e A_e / B - 1, A_e how often expert e of a layer ran, B the mean of that over its experts;
  // of all layers: the mean over those that were visited.
  double load_violation = 0;
  std::vector<double> load_violation_by_layer;  // [layers]
};

// Not for prefill. Visits whose executed set is the native one take a short way: their proxies are
// exactly 1 and 0.
//
// On a compact trace the recorded weights of the native set stand for p, so that an executed expert
// must be native. Without recorded weights only counts and agreement exist, unless the sets are
// always equal.
class RoutingQuality {
 public:
  // `max_experts`: the most that the policy executes. `tokens`: the most visits that a layer will
  // have; room is reserved for so many, so that add() does not allocate.
  RoutingQuality(RoutingShape shape, std::size_t k, std::size_t max_experts, std::size_t tokens);

  // `gate` is set to the visit. Throws InvariantError for an executed expert outside the native
  // set of a compact trace.
  void add(LayerId layer, Gate& gate, const Selection& executed);
  // A block that a layer plan skips: a visit that ran nothing of the model's choice.
  void add_skipped(LayerId layer);
  // The bias divergence of the visit added last.
  void add_bias_divergence(LayerId layer, double divergence);
  // Forgets everything added so far: the end of the warm-up.
  void start();

  // Throws InvariantError where a layer had more visits than announced.
  [[nodiscard]] RoutingQualityResult result() const;

 private:
  enum Proxy : std::uint8_t {
    kExperts,
    kAgreement,
    kSwapRate,
    kRetainedMass,
    kRetainedMassAbsolute,
    kDroppedMass,
    kSkippedMass,
    kTotalVariation,
    kJensenShannon,
    kGateL2,
    kLogitRegret,
    kLogitRange,
    kBiasDivergence,
    kProxies
  };
  template <class T>
  using PerProxy = std::array<T, kProxies>;

  // What a visit has of each proxy.
  using Values = PerProxy<std::optional<double>>;

  // Of one layer, or of all.
  class Statistics {
   public:
    explicit Statistics(std::size_t most_visits);
    void add_visit(const Values& values);
    void add(Proxy proxy, double value);
    void clear();
    [[nodiscard]] RoutingProxies means() const;
    [[nodiscard]] RoutingProxies p95s() const;

   private:
    struct Series {
      std::uint64_t values = 0;  // fewer than visits: some visit had none
      double sum = 0;
      UpperTail tail;
    };
    template <class Statistic>
    [[nodiscard]] RoutingProxies proxies(Statistic&& statistic) const;

    std::uint64_t visits_ = 0;
    std::vector<Series> series_;  // [kProxies]
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
  void compare_masses(std::size_t native_experts, Values& values) const;
  void compare_gates(std::size_t native_experts, double native_sum, double executed_sum,
                     Values& values) const;
  void compare_logits(std::size_t native_experts, Gate& gate, double total, Values& values) const;
  [[nodiscard]] double load_violation(std::size_t layer) const;

  RoutingShape shape_;
  std::vector<Statistics> layers_;  // [layers]
  Statistics all_;
  std::vector<Member> union_;            // of the visit
  std::vector<std::uint64_t> loads_;     // [layers, experts], how often each ran
  std::vector<std::uint8_t> is_native_;  // [experts], in add(): 1 native, 2 native and executed
  RoutingQualityResult counts_;          // its counts only
};

}  // namespace moesim
