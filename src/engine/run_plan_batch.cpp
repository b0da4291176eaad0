// The part of RunPlan about sequences that decode in lock-step.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <string>

#include "engine/batch_schedule.h"
#include "engine/cell_reader.h"
#include "engine/run_plan.h"

namespace moesim {
namespace {

// The model's own routing of any token of a trace: the path that the token scheduler goes by.
class NativePaths {
 public:
  NativePaths(const Trace& trace, const GateSpec& gate, std::size_t k)
      : reader_(trace), gate_(gate, trace.shape().experts, k), shape_(trace.shape()) {}

  void append(std::uint32_t row, ExpertPaths& paths) {
    paths.add_token();
    for (std::size_t layer = 0; layer < shape_.layers; ++layer) {
      if (!reader_.set(gate_, row, static_cast<LayerId>(layer))) continue;
      for (const ExpertId expert : gate_.native().ids) {
        paths.add_expert(layer * shape_.experts + index(expert));
      }
    }
  }

 private:
  CellReader reader_;
  Gate gate_;
  RoutingShape shape_;
};

// `sequences`: those that decode a token.
void check_batch(const RunConfig& config, std::size_t sequences, const std::string& trace) {
  const BatchOptions& batch = config.schedule.batch;
  const bool schedules = batch.scheduler != TokenSchedulerKind::kNone;
  if (batch.size == 1) {
    if (!schedules) return;
    throw config.error("/execution/scheduler",
                       "expected none with a batch of 1: there is nothing to rearrange");
  }
  if (sequences < 2) {
    throw config.error(
        "/execution/batch",
        fmt::format("expected 1, got {}: the trace {} has no second sequence", batch.size, trace));
  }
  if (schedules && sequences <= batch.size) {
    throw config.error(
        "/execution/scheduler",
        fmt::format("expected none, because the {} sequences of the trace {} fit into one batch "
                    "of {}",
                    sequences, trace, batch.size));
  }
  if (config.cache.reset == CacheReset::kSequence) {
    throw config.error("/cache/reset",
                       fmt::format("expected never with a batch of {}: its sequences begin and end "
                                   "at different times and share the cache",
                                   batch.size));
  }
}

}  // namespace

void RunPlan::batch_sequences() {
  const BatchOptions& batch = config_.schedule.batch;
  check_batch(config_, batch.size == 1 ? 0 : decoding_sequences(schedule_), trace_.shown());
  if (batch.size == 1) return;
  const RoutingShape shape = trace_.shape();
  NativePaths paths(trace_, gate_, k_);
  schedule_ =
      batch_schedule(schedule_, batch, config_.schedule.warmup_tokens, shape.layers * shape.experts,
                     [&paths](std::uint32_t row, ExpertPaths& out) { paths.append(row, out); });
  if (schedule_.measured_tokens == 0) {
    throw config_.error("/trace/warmup_tokens",
                        fmt::format("expected a step to measure after them, got {}: each of the "
                                    "last step's sequences decodes in the warm-up",
                                    config_.schedule.warmup_tokens));
  }
}

void RunPlan::warn_about_batches() {
  const BatchOptions& batch = config_.schedule.batch;
  if (batch.size == 1) return;
  const std::size_t wanted =
      batch.scheduler == TokenSchedulerKind::kNone ? batch.size : 2 * batch.size;
  if (schedule_.lanes < wanted) {
    warnings_.push_back(
        fmt::format("the trace has {} sequences, fewer than the {} that could "
                    "decode at once: the batches are smaller",
                    schedule_.lanes, wanted));
  }
  if (schedule_.scheduler) {
    warnings_.push_back(
        "the token scheduler goes by the model's own routing of the very tokens that it arranges: "
        "an oracle, where ExpertFlow has a predictor");
  }
  const CacheOptions& cache = cache_options_;
  if (cache.capacity == 0) return;
  const bool global = cache.scope == CacheScope::kGlobal;
  const std::size_t visits = global ? trace_.shape().layers : 1;
  const std::size_t most = visits * std::min(trace_.shape().experts, schedule_.tokens_in_pass * k_);
  const std::uint64_t all =
      std::accumulate(cache.expert_size.begin(), cache.expert_size.end(), std::uint64_t{0});
  const auto holds =
      static_cast<std::uint64_t>(Wide{cache.capacity} * cache.expert_size.size() / all);
  if (holds >= most) return;
  warnings_.push_back(fmt::format(
      "a pass of {} tokens can use {} experts {}, the cache holds {}: it may keep less than one "
      "pass uses",
      schedule_.tokens_in_pass, most, global ? "of all layers" : "of a layer", holds));
}

}  // namespace moesim
