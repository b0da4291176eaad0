// Decoding for real: the passes of a run's schedule through the same task graph, session, policies
// and cache as the simulation's, but with real reads and real products, and with the time that they
// take.
//
// One thread walks the graph. It runs what can be computed in the order in which it became ready,
// as the simulation's compute agent does, shares each product with its team, and looks between
// products for reads that have ended. Left out: prefill, prefetch, batches, tiers, misses at low
// precision; require_real() (real_run.h) refuses them.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "calibration/dense_weights.h"
#include "calibration/product_times.h"
#include "calibration/real_experts.h"
#include "engine/run_observer.h"
#include "engine/run_plan.h"
#include "kernels/aligned_floats.h"
#include "kernels/thread_team.h"
#include "model/token_graph.h"

namespace moesim {

// The weight with which an expert of the visit enters the sum; equal ones where the trace has none.
float weight_of(ExpertId expert, const VisitOutcome& visit);

struct RealDecodeParts {
  RunPlan* plan = nullptr;  // its session is used up by the run
  const DenseWeights* dense = nullptr;
  RealExperts* experts = nullptr;
  ThreadTeam* team = nullptr;
};

class RealDecode {
 public:
  // All parts must outlive it. REQUIRES: require_real().
  explicit RealDecode(const RealDecodeParts& parts);

  // All passes. `observer` hears of every visit and every pass: of its record start, end, parts,
  // cache, flash, experts, compute_bytes and expert_bytes. Throws UserError where a read fails.
  void run(RunObserver& observer);

  // Of each pass, what its token's residual stream and head came to.
  [[nodiscard]] const std::vector<std::uint64_t>& outputs() const { return outputs_; }
  // Of the measured passes.
  [[nodiscard]] const ProductTimes& product_times() const { return product_times_; }

 private:
  using Clock = std::chrono::steady_clock;

  struct Slot {
    ExpertKey key{};
    bool miss = false;
  };

  void run_pass(const Pass& pass);
  void report(TimePoint start);
  void walk();
  void start(std::uint32_t id);
  void complete(std::uint32_t id);
  void arrived(std::uint32_t fetch);
  [[nodiscard]] bool takes_no_time(const Task& task) const;
  void begin_fetch(std::uint32_t id);
  void compute(std::uint32_t id);
  void compute_dense(const Task& task);
  void compute_expert(const Task& task);
  void note_product(ProductKind kind, Duration real, Duration simulated, std::size_t bytes);
  void decide(const Task& router);
  void combine();
  void settle();
  // Makes the arena hold what the cache says: its initial contents, nothing after a reset.
  void follow_cache();
  [[nodiscard]] std::span<float> scratch_of(std::size_t slot);
  [[nodiscard]] TimePoint now() const;

  RealDecodeParts parts_;
  RunObserver* observer_ = nullptr;
  CompiledGraph graph_;
  Clock::time_point origin_;
  std::size_t hidden_;
  std::size_t intermediate_;

  const Pass* pass_ = nullptr;
  bool pass_done_ = false;
  PassRecord record_;
  std::vector<std::uint32_t> executions_;  // [hidden layers]
  std::vector<std::uint16_t> pending_;     // [tasks], predecessors that have not ended
  std::vector<std::uint16_t> reads_left_;  // [tasks], of a fetch
  std::deque<std::uint32_t> ready_;        // tasks that can start
  std::deque<std::uint32_t> jobs_;         // tasks that wait for the compute agent
  std::size_t fetching_ = 0;               // fetches under way
  std::vector<Slot> slots_;                // of the layer visit under way
  RealReadCounts reads_counted_;
  CacheCounts cache_counted_;
  std::chrono::nanoseconds lane_counted_{0};

  AlignedFloats x_;             // [hidden], residual stream
  AlignedFloats input_;         // [hidden], normalised
  AlignedFloats norm_;          // [hidden], its weights: ones
  AlignedFloats dense_out_;     // [most rows of a dense part]
  AlignedFloats router_out_;    // [experts], of the visit under way
  AlignedFloats shared_out_;    // [rows of the shared part], likewise
  AlignedFloats expert_out_;    // [slots, hidden]
  AlignedFloats scratch_;       // [slots, 2 * intermediate], each from a cache line
  std::vector<float> weights_;  // [slots]
  std::vector<std::uint64_t> outputs_;
  ProductTimes product_times_{};
};

}  // namespace moesim
