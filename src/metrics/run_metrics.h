// Turns what a run reports into its result. Sums are integers; divisions come at the end.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "engine/run_observer.h"
#include "engine/run_plan.h"
#include "metrics/device_state.h"
#include "metrics/prediction_quality.h"
#include "metrics/routing_quality.h"
#include "metrics/run_result.h"

namespace moesim {

// Experts that all caches hold together; nothing where experts of one cache differ in size.
std::optional<std::uint64_t> cache_slots(const CacheOptions& options);

class RunMetrics final : public RunObserver {
 public:
  // `keep_rows`: also keep one row per measured token. Takes all its memory here.
  RunMetrics(RunPlan& plan, bool keep_rows);

  void on_visit(const Pass& pass, LayerId layer, const VisitOutcome& visit, TimePoint at) override;
  void on_pass(const PassRecord& record) override;

  // After the run. Bounds are not in it: they take replays of their own.
  [[nodiscard]] RunResult result() const;

 private:
  // What the passes of one step did: together they give each of `tokens` sequences one token.
  struct Step {
    std::size_t tokens = 0;
    Duration wall{};
    Durations<kTimeParts> parts{};
    Durations<kPathParts> path{};
    Duration dependency{};
    Duration flash_bound{};
    std::uint64_t dram_bytes = 0;
  };

  void add_measured(const PassRecord& record);
  void end_step();
  void add_rows(const PassRecord& record);
  void track_first_tokens(const PassRecord& record);
  void begin_sequence(std::int32_t sequence, TimePoint at);
  void end_first_token(std::int32_t sequence, TimePoint at);
  [[nodiscard]] TimeResult time_result() const;
  [[nodiscard]] MemoryResult memory_result() const;
  [[nodiscard]] EnergyResult energy_result() const;

  RunPlan& plan_;
  bool keep_rows_;
  RoutingQuality quality_;
  PredictionQuality prediction_;
  std::vector<Duration> walls_;  // measured tokens
  std::vector<TokenRow> rows_;
  Durations<kTimeParts> parts_{};
  Durations<kPathParts> path_{};
  Duration token_wall_{};
  Duration wall_{};
  Step step_;
  std::vector<TokenRow> pass_rows_;  // of the pass under way, where it decodes several sequences
  Duration prefill_{};
  Duration dependency_{};
  Duration flash_bound_{};
  std::uint64_t dram_bytes_ = 0;
  std::uint64_t compute_bytes_ = 0;
  std::uint64_t expert_bytes_ = 0;  // of them
  ThermalLog thermal_;
  std::uint64_t low_precision_ = 0;
  std::uint64_t skipped_experts_ = 0;
  CacheCounts cache_;
  CacheCounts prefill_cache_;
  FlashCounts flash_;
  std::vector<TierCounts> tiers_;
  PrefetchCounts prefetch_;
  PageMoves pages_;
  // Time to first token: sequences that have begun and have no decoded token.
  struct Begun {
    std::int32_t sequence = 0;
    TimePoint at{};
  };
  std::vector<Begun> awaiting_first_;
  Duration first_token_sum_{};
  std::size_t first_tokens_ = 0;
};

}  // namespace moesim
