// What a user should know about a configuration before reading its result: the traps that a run
// cannot show by itself.
#include <fmt/format.h>

#include <cmath>

#include "engine/run_plan.h"

namespace moesim {

// Below one token cycle the experts of a token push each other out before they come round again.
void RunPlan::warn_about_small_cache() {
  const CacheOptions& cache = cache_options_;
  if (cache.capacity == 0) return;
  const bool global = cache.scope == CacheScope::kGlobal;
  const std::size_t visits = global ? trace_.shape().layers : 1;
  std::uint64_t needed = 0;  // of one token in the first partition, in units of the capacity
  for (std::size_t layer = 0; layer < visits; ++layer) {
    needed += k_ * cache.expert_size[layer * trace_.shape().experts];
  }
  if (cache.capacity >= needed) return;
  warnings_.push_back(
      fmt::format("the cache holds less than one token cycle ({:.0f} % of what one token uses {}): "
                  "with eviction "
                  "by recency it then hits next to nothing",
                  100.0 * static_cast<double>(cache.capacity) / static_cast<double>(needed),
                  global ? "in all layers" : "per layer"));
}

// Recorded sizes decide what is read; the kernel rate is that of expert_bits.
void RunPlan::warn_about_recorded_sizes() {
  if (!config_.model || !config_.device || !trace_.expert_bytes(LayerId{0})) return;
  const double bits = 8.0 * static_cast<double>(expert_bytes_[0]) /
                      static_cast<double>(config_.model->expert_params());
  if (std::abs(bits / config_.bits.expert - 1) <= 0.1) return;
  warnings_.push_back(
      fmt::format("the trace records experts of {:.1f} bits a weight, but weights."
                  "expert_bits is {}: their kernel rate is that of the latter",
                  bits, config_.bits.expert));
}

void RunPlan::warn_about_layer_plan() {
  for (const Pass& pass : schedule_.passes) {
    if (!pass.starts_sequence) continue;
    for (std::size_t layer = 0; layer < trace_.shape().layers; ++layer) {
      if (session_->routing().executions(pass.sequence, static_cast<LayerId>(layer)) == 1) continue;
      warnings_.push_back(
          "open loop: the recorded logits do not react to blocks that the routing skips or "
          "repeats, "
          "so later layers and tokens would differ in truth");
      return;
    }
  }
}

void RunPlan::warn_about_traps() {
  warn_about_layer_plan();
  warn_about_small_cache();
  warn_about_recorded_sizes();
  if (config_.model && !trace_.model().empty() && trace_.model() != config_.model->name) {
    warnings_.push_back(
        fmt::format("routing was recorded on {}, sizes are those of {}: what follows "
                    "describes neither model exactly",
                    trace_.model(), config_.model->name));
  }
  if (config_.model && k_ != config_.model->num_experts_per_tok) {
    warnings_.push_back(fmt::format("routing takes k = {} experts, the model {} natively {}", k_,
                                    config_.model->name, config_.model->num_experts_per_tok));
  }
  if (!trace_.has_logits() && !trace_.ranked()) {
    warnings_.push_back(
        "the trace does not say which expert of a visit was best: experts are touched "
        "in order of their ids");
  }
  if (costs_) {
    for (const std::string& format : costs_->formats_without_rate()) {
      warnings_.push_back(
          fmt::format("the device has no kernel rate for {} weights: their products are "
                      "bound by DRAM alone, which is optimistic where the kernel is "
                      "slower, and for prefill",
                      format));
    }
  }
}

}  // namespace moesim
