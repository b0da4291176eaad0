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
    needed += k_ * layer_sum(cache.expert_size, layer) / trace_.shape().experts;
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
  if (config_.allocation && trace_.expert_bytes(LayerId{0})) {
    warnings_.push_back(
        "the trace records the sizes of its experts, but weights.allocation takes their place");
  }
  if (config_.allocation && config_.model && !config_.allocation->model.empty() &&
      config_.allocation->model != config_.model->name) {
    warnings_.push_back(fmt::format("weights.allocation was made for {}, sizes are those of {}",
                                    config_.allocation->model, config_.model->name));
  }
  if (config_.allocation) return;
  if (!config_.model || !config_.device || !trace_.expert_bytes(LayerId{0})) return;
  const double bits = 8.0 * static_cast<double>(expert_bytes_[0]) /
                      static_cast<double>(config_.model->expert_params());
  if (std::abs(bits / config_.bits.expert - 1) <= 0.1) return;
  warnings_.push_back(
      fmt::format("the trace records experts of {:.1f} bits a weight, but weights."
                  "expert_bits is {}: their kernel rate is that of the latter",
                  bits, config_.bits.expert));
}

// Settings that make a cache look better than one that could be built.
void RunPlan::warn_about_yardsticks() {
  if (config_.cache.initial.kind == InitialKind::kHotTrace) {
    warnings_.push_back(
        "the cache starts with the experts that the whole trace uses most: a yardstick that knows "
        "the future");
  }
  if (config_.cache.cold_start == ColdStart::kHitUntilFull) {
    warnings_.push_back(
        "first accesses count as hits until the cache is full, which flatters short traces");
  }
}

// A predictor that has seen what it is judged on looks better than it is.
void RunPlan::warn_about_training() {
  std::size_t seen = 0;
  const std::uint32_t trained = prefetcher_->trained_rows();
  for (const Pass& pass : schedule_.passes) {
    if (!pass.measured) continue;
    if (pass.tokens.empty()) seen += pass.first < trained ? 1 : 0;
    for (const PassToken& token : pass.tokens) seen += token.row < trained ? 1 : 0;
  }
  if (seen == 0) return;
  warnings_.push_back(fmt::format(
      "prefetch {} was trained on {} of the {} measured tokens: its recall and what follows from "
      "it are those of hindsight",
      config_.prefetch.json().at("policy").get<std::string>(), seen, schedule_.measured_tokens));
}

// A pass over several sequences walks through the layers once, for all of them.
void RunPlan::check_layer_plan() {
  for (const Pass& pass : schedule_.passes) {
    if (!pass.starts_sequence) continue;
    for (std::size_t layer = 0; layer < trace_.shape().layers; ++layer) {
      if (session_->routing().executions(pass.sequence, static_cast<LayerId>(layer)) == 1) continue;
      if (config_.schedule.batch.size > 1) {
        throw config_.error(
            "/execution/batch",
            "expected 1, because the routing skips or repeats layers of a sequence");
      }
      if (config_.eviction.json().at("policy") == "plec") {
        throw config_.error(
            "/cache/eviction/policy",
            "expected another than plec, whose slot plan takes the layers in order, "
            "because the routing skips or repeats some");
      }
      warnings_.push_back(
          "open loop: the recorded logits do not react to blocks that the routing skips or "
          "repeats, so later layers and tokens would differ in truth");
      return;
    }
  }
}

void RunPlan::warn_about_traps() {
  check_layer_plan();
  warn_about_small_cache();
  warn_about_training();
  warn_about_recorded_sizes();
  warn_about_batches();
  for (std::string& warning : tier_warnings(config_.tiers, cache_bytes())) {
    warnings_.push_back(std::move(warning));
  }
  warn_about_yardsticks();
  if (config_.model && !trace_.model().empty() && trace_.model() != config_.model->name) {
    warnings_.push_back(
        trace_.model() == kSyntheticModel
            ? fmt::format("the routing is synthetic, of no model, and sizes are those of {}: what "
                          "follows describes no model",
                          config_.model->name)
            : fmt::format("routing was recorded on {}, sizes are those of {}: what follows "
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
    warn_about_extrapolation();
  }
}

void RunPlan::warn_about_extrapolation() {
  const std::vector<std::string>& products = costs_->extrapolated_products();
  if (products.empty()) return;
  warnings_.push_back(fmt::format(
      "kernel times of {} are extrapolated: outside the shapes that cpu.kernel_model of "
      "the device was fitted to",
      fmt::join(products, ", ")));
}

}  // namespace moesim
