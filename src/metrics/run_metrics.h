// Turns what a run reports into its result. Sums are integers; divisions come at the end.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/run_observer.h"
#include "engine/run_plan.h"
#include "metrics/prediction_quality.h"
#include "metrics/routing_quality.h"
#include "metrics/run_result.h"

namespace moesim {

class RunMetrics final : public RunObserver {
 public:
  // `keep_rows`: also keep one row per measured token. Takes all its memory here.
  RunMetrics(RunPlan& plan, bool keep_rows);

  void on_visit(const Pass& pass, LayerId layer, const VisitOutcome& visit, TimePoint at) override;
  void on_pass(const PassRecord& record) override;

  // After the run. Bounds are not in it: they take replays of their own.
  [[nodiscard]] RunResult result() const;

 private:
  void add_measured(const PassRecord& record);
  void track_first_tokens(const PassRecord& record);
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
  Duration wall_{};
  Duration prefill_{};
  Duration dependency_{};
  Duration flash_bound_{};
  std::uint64_t dram_bytes_ = 0;
  std::uint64_t compute_bytes_ = 0;
  CacheCounts cache_;
  CacheCounts prefill_cache_;
  FlashCounts flash_;
  PrefetchCounts prefetch_;
  std::uint32_t longest_context_ = 0;
  // Time to first token, per sequence.
  bool awaiting_first_ = false;
  Duration since_start_{};
  Duration first_token_sum_{};
  std::size_t first_tokens_ = 0;
};

}  // namespace moesim
