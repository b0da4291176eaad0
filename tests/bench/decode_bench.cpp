// What a run costs per token and per expert access, on the shape of Qwen3-30B-A3B: 48 layers, 128
// experts, k = 8, full router logits. Each benchmark first checks that the run it times is right.
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <filesystem>
#include <memory>

#include "api/run.h"
#include "core/rng.h"
#include "core/select.h"
#include "engine/replay.h"
#include "metrics/run_metrics.h"
#include "trace/trace_writer.h"

namespace moesim {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kTokens = 256;
constexpr std::size_t kLayers = 48;
constexpr std::size_t kExperts = 128;
constexpr std::size_t kTopK = 8;

constexpr double kPlenty = 1e6;  // MiB that an app may hold

// Logits with the locality of a decoded text: an offset per expert that drifts, and noise.
TraceData make_trace() {
  TraceData data;
  data.shape = {kTokens, kLayers, kExperts};
  data.metadata = {{"model", "qwen3-30b-a3b"}, {"top_k", "8"}, {"gate", "A"}};
  Rng rng(1);
  std::vector<float> drift(kLayers * kExperts);
  for (float& d : drift) d = static_cast<float>(1.5 * rng.normal());
  data.logits.reserve(kTokens * drift.size());
  for (std::size_t token = 0; token < kTokens; ++token) {
    for (float& d : drift) {
      d = 0.97F * d + static_cast<float>(0.36 * rng.normal());
      data.logits.push_back(d + static_cast<float>(0.5 * rng.normal()));
    }
  }
  return data;
}

// The same selections as recorded ids.
TraceData compact(const TraceData& full) {
  TraceData data;
  data.shape = full.shape;
  data.metadata = full.metadata;
  data.metadata["experts"] = std::to_string(kExperts);
  data.k = kTopK;
  for (std::size_t row = 0; row < kTokens * kLayers; ++row) {
    std::vector<std::uint16_t> best(kTopK);
    select_top_k(std::span(full.logits).subspan(row * kExperts, kExperts), std::span(best));
    data.ids.insert(data.ids.end(), best.begin(), best.end());
  }
  return data;
}

// The traces as files, once for all benchmarks, removed at the end.
class Traces {
 public:
  Traces() : folder_(fs::temp_directory_path() / ("moesim-bench-" + std::to_string(::getpid()))) {
    fs::create_directories(folder_);
    const TraceData full = make_trace();
    write_trace(full, folder_ / "full.safetensors");
    write_trace(compact(full), folder_ / "ids.safetensors");
  }
  ~Traces() {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  Traces(const Traces&) = delete;
  Traces& operator=(const Traces&) = delete;

  static std::string path(const std::string& name) {
    static const Traces traces;
    return (traces.folder_ / name).string();
  }

 private:
  fs::path folder_;
};

std::unique_ptr<RunPlan> make_plan(const std::string& trace, const char* policy, bool timed,
                                   const char* layout = "slices", double memory_mib = kPlenty) {
  Json root = {{"trace", {{"path", Traces::path(trace)}}},
               {"model", "qwen3-30b-a3b"},
               {"weights", {{"expert_bits", 4.5}, {"dense_bits", 4.5}}},
               {"routing", {{"policy", policy}}},
               {"cache", {{"capacity_fraction", 0.5}}},
               {"execution", {{"overlap", "expert"}, {"expert_layout", layout}}}};
  if (timed) {
    root["device"] = "oneplus-15r";
    // Half of the experts are more than this phone concedes: what reclaim costs to simulate is the
    // business of the benchmark above_budget.
    if (memory_mib > 0) root["memory"]["app_budget_mib"] = memory_mib;
  }
  if (std::string(policy) == "cache_prior") root["routing"]["lambda"] = 0.1;
  return plan_run({root, "benchmark", "", {}});
}

bool adds_up(const CacheCounts& counts, std::size_t tokens) {
  return counts.accesses == tokens * kLayers * kTopK &&
         counts.hits + counts.misses == counts.accesses;
}

// `memory_mib`: the app budget; 0 for the device's own.
void full_timing(benchmark::State& state, const char* policy, const char* layout,
                 double memory_mib) {
  const auto plan = make_plan("full.safetensors", policy, true, layout, memory_mib);
  RunMetrics metrics(*plan, false);
  plan->simulation()->run(0, kTokens, &metrics, false);
  if (!adds_up(metrics.result().cache, kTokens)) state.SkipWithError("wrong counts");
  for ([[maybe_unused]] auto _ : state) plan->simulation()->run(0, kTokens, &metrics, false);
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(kTokens));
  state.counters["us_per_token"] =
      benchmark::Counter(static_cast<double>(state.iterations()) * kTokens * 1e-6,
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

void without_timing(benchmark::State& state, const char* trace, const char* policy) {
  const auto plan = make_plan(trace, policy, false);
  RunMetrics metrics(*plan, false);
  Replay replay(plan->session(), plan->schedule());
  replay.run(0, kTokens, &metrics);
  if (!adds_up(metrics.result().cache, kTokens)) state.SkipWithError("wrong counts");
  for ([[maybe_unused]] auto _ : state) replay.run(0, kTokens, &metrics);
  state.SetItemsProcessed(state.iterations() *
                          static_cast<std::int64_t>(kTokens * kLayers * kTopK));
}

BENCHMARK_CAPTURE(full_timing, cache_prior, "cache_prior", "slices", kPlenty)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(full_timing, cache_prior_contiguous, "cache_prior", "contiguous", kPlenty)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(full_timing, top_k, "top_k", "slices", kPlenty)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(full_timing, above_budget, "cache_prior", "slices", 0.0)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(without_timing, logits_cache_prior, "full.safetensors", "cache_prior")
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(without_timing, logits_top_k, "full.safetensors", "top_k")
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(without_timing, ids_top_k, "ids.safetensors", "top_k")
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace moesim
