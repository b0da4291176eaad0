// One run, put together: trace, model, device and policies as objects that fit each other. What
// does not fit is a UserError, before any result.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cache/expert_cache.h"
#include "engine/access_log.h"
#include "engine/decode_simulation.h"
#include "engine/expert_session.h"
#include "engine/memory_arena.h"
#include "engine/run_config.h"
#include "engine/run_share.h"
#include "engine/task_costs.h"
#include "engine/token_schedule.h"
#include "model/gate_spec.h"
#include "prefetch/prefetcher.h"
#include "trace/trace.h"

namespace moesim {

class RunPlan {
 public:
  // Opens the trace and builds everything. `share`: what other runs have made already; it must
  // outlive this. Throws UserError.
  explicit RunPlan(RunConfig config, RunShare* share = nullptr);

  [[nodiscard]] const RunConfig& config() const { return config_; }
  [[nodiscard]] const Trace& trace() const { return trace_; }
  [[nodiscard]] const TokenSchedule& schedule() const { return schedule_; }
  [[nodiscard]] const GateSpec& gate() const { return gate_; }
  [[nodiscard]] std::size_t k() const { return k_; }
  [[nodiscard]] const CacheOptions& cache_options() const { return cache_options_; }
  [[nodiscard]] const std::vector<std::uint64_t>& expert_bytes() const { return expert_bytes_; }
  // False where neither trace nor model says how large an expert is: byte counts are then unknown.
  [[nodiscard]] bool knows_bytes() const { return knows_bytes_; }
  [[nodiscard]] const TaskCosts* costs() const { return costs_ ? &*costs_ : nullptr; }
  [[nodiscard]] ExpertSession& session() { return *session_; }
  [[nodiscard]] const ExpertSession& session() const { return *session_; }
  // Of the tiers behind the cache, nearest first.
  [[nodiscard]] std::vector<std::string> tier_names() const;
  // What the tiers behind the cache hold; null where the device has none.
  [[nodiscard]] const TieredStore* tiers() const { return tiers_.get(); }
  // What memory the run wants and may have. REQUIRES: a device.
  [[nodiscard]] MemoryDemand memory_demand() const;
  // True where memory is short and the device says what that costs.
  [[nodiscard]] bool reclaims() const { return arena_ != nullptr; }
  // Null where the run is without time.
  [[nodiscard]] DecodeSimulation* simulation() { return simulation_.get(); }
  // What the user should know about this configuration before reading the result.
  [[nodiscard]] const std::vector<std::string>& warnings() const { return warnings_; }

  // The accesses of the model's own routing, and of the configured routing where it does not look
  // at the cache (else nullopt: they are known only after the run).
  [[nodiscard]] std::shared_ptr<const AccessLog> native_accesses() const;
  // Nor do misses change what runs (weights.on_miss).
  [[nodiscard]] bool future_known() const {
    return !session_->routing().looks_at_residency() && !is_mixed();
  }
  [[nodiscard]] std::shared_ptr<const AccessLog> executed_accesses() const;
  // What decides those accesses, as a text: equal for runs of a sweep that have them in common.
  [[nodiscard]] std::string native_key() const;
  [[nodiscard]] std::string executed_key() const;
  // The executed accesses in this run's cache with its eviction policy: what a run without time
  // counts. REQUIRES: future_known().
  [[nodiscard]] ReplayCounts replay_configured(const AccessLog& log) const;
  // An eviction policy that looks ahead, over `log` in this run's cache: the offline bounds.
  [[nodiscard]] CacheCounts replay_offline(const std::string& policy, const AccessLog& log) const;
  // What that bound does not mean here (unequal sizes); "" where it is exact.
  [[nodiscard]] std::string belady_caveat() const;
  // True where the experts that run are always the model's own.
  [[nodiscard]] bool is_native() const {
    return config_.routing.json().at("policy") == "top_k" && !is_mixed();
  }
  // True where a miss may be served at lower precision, or not at all. The bounds are then those of
  // a cache of the same bytes at full precision.
  [[nodiscard]] bool is_mixed() const { return config_.on_miss.policy != MissPolicy::kFull; }

  // Bytes of the experts of one token at k per layer, each of its layer's mean size: below this a
  // global cache that evicts the least recently used hits nothing.
  [[nodiscard]] std::uint64_t token_cycle_bytes() const;
  // Bytes that the cache may hold, all partitions together.
  [[nodiscard]] std::uint64_t cache_bytes() const;

 private:
  void check_shapes();
  void choose_gate();
  void choose_k();
  void check_gate() const;
  void batch_sequences();
  void size_experts();
  void size_allocated_experts();
  void size_low_precision();
  void check_on_miss() const;
  [[nodiscard]] UserError no_future_with_misses(const Section& section) const;
  void size_cache();
  void count_capacity_in_bytes();
  void check_routing(const RoutingPolicy& routing) const;
  void build_session();
  void build_simulation();
  void build_arena();
  void warn_about_traps();
  void warn_about_small_cache();
  void warn_about_batches();
  void warn_about_recorded_sizes();
  void warn_about_training();
  void warn_about_yardsticks();
  void warn_about_extrapolation();
  void check_layer_plan();
  [[nodiscard]] std::unique_ptr<RoutingPolicy> make_routing(const Section& section) const;
  [[nodiscard]] std::unique_ptr<EvictionPolicy> make_eviction(const Section& section,
                                                              const FutureAccesses* future) const;
  [[nodiscard]] std::unique_ptr<ExpertSession> make_session(
      std::unique_ptr<RoutingPolicy> routing, const CacheOptions& options,
      std::unique_ptr<EvictionPolicy> eviction) const;
  [[nodiscard]] std::string key_of(const Section& routing) const;
  [[nodiscard]] AccessLog record_accesses_of(const Section& routing) const;
  [[nodiscard]] std::shared_ptr<const AccessLog> accesses_of(const Section& routing) const;
  [[nodiscard]] std::unique_ptr<ExpertSession> make_mixed_session(
      std::unique_ptr<RoutingPolicy> routing) const;
  [[nodiscard]] std::vector<ExpertFormat> expert_formats() const;
  [[nodiscard]] std::uint64_t layer_sum(const std::vector<std::uint64_t>& values,
                                        std::size_t layer) const;
  [[nodiscard]] Section named(const std::string& policy, const std::string& pointer) const;
  [[nodiscard]] EvictionContext eviction_context(const FutureAccesses* future) const;
  [[nodiscard]] PrefetchContext prefetch_context(const FutureAccesses* future) const;

  RunConfig config_;
  RunShare* share_;  // may be null
  Trace trace_;
  TokenSchedule schedule_;
  GateSpec gate_;
  std::size_t k_ = 0;
  CacheOptions cache_options_;
  std::vector<std::uint64_t> expert_bytes_;  // [layers * experts]
  std::vector<std::uint64_t> low_bytes_;     // likewise, at low precision; empty unless is_mixed()
  bool knows_bytes_ = false;
  std::optional<TaskCosts> costs_;
  std::shared_ptr<const AccessLog> future_;  // where a policy looks ahead
  std::unique_ptr<Prefetcher> prefetcher_;
  std::unique_ptr<ExpertSession> session_;
  std::unique_ptr<TieredStore> tiers_;  // null where the device has none
  std::unique_ptr<MemoryArena> arena_;  // null where memory suffices
  std::unique_ptr<DecodeSimulation> simulation_;
  std::vector<std::string> warnings_;
};

}  // namespace moesim
