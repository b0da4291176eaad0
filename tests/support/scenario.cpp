#include "support/scenario.h"

#include "core/files.h"
#include "core/rng.h"

namespace moesim::test {

Json scenario_model() {
  return {
      {"name", "small"},
      {"hidden_size", 256},
      {"num_hidden_layers", 4},
      {"moe_layers", 4},
      {"num_experts", 16},
      {"num_experts_per_tok", 4},
      {"moe_intermediate_size", 512},
      {"vocab_size", 1000},
      {"gate", {{"function", "softmax"}, {"norm_topk_prob", true}}},
      {"attention",
       {{"type", "gqa"}, {"num_attention_heads", 4}, {"num_key_value_heads", 2}, {"head_dim", 64}}},
      {"source", "made up for tests"}};
}

Json scenario_device() {
  const Json made_up = {{"tag", "estimate"}, {"source", "made up for tests"}};
  return {{"name", "test-device"},
          {"description", "round numbers"},
          {"flash",
           {{"bw_gbps", 1.0},
            {"dev_cmd_us", 10},
            {"host_delay_us", 100},
            {"qd_limit", 32},
            {"lanes", 2}}},
          {"dram",
           {{"total_gbps", 20.0}, {"cpu_gbps", 20.0}, {"cpu_core_gbps", 20.0}, {"dma_factor", 1}}},
          {"cpu", {{"threads", 4}, {"layer_overhead_us", 50}}},
          {"memory", {{"app_budget_mib", 4096}, {"page_kib", 4}, {"admit_us_per_page", 0.5}}},
          {"energy",
           {{"flash_j_per_gb", 0.5},
            {"cpu_j_per_gb", 0.2},
            {"dram_j_per_gb", 0.05},
            {"platform_w", 1.0}}},
          {"provenance",
           {{"/flash", made_up},
            {"/dram", made_up},
            {"/cpu", made_up},
            {"/memory", made_up},
            {"/energy", made_up}}}};
}

TraceData random_logits(const RoutingShape& shape, std::size_t k, std::uint64_t seed) {
  TraceData data;
  data.shape = shape;
  data.logits_dtype = "F32";
  data.metadata = {{"model", "small"}, {"top_k", std::to_string(k)}, {"gate", "A"}};
  Rng rng(seed);
  std::vector<float> offsets(shape.layers * shape.experts);
  for (std::size_t token = 0; token < shape.tokens; ++token) {
    if (token % 8 == 0) {
      for (float& offset : offsets) offset = static_cast<float>(2 * rng.normal());
    }
    for (const float offset : offsets)
      data.logits.push_back(offset + static_cast<float>(rng.normal()));
  }
  return data;
}

Scenario::Scenario(std::size_t tokens, std::uint64_t seed)
    : Scenario(random_logits({tokens, 4, 16}, 4, seed)) {}

Scenario::Scenario(const TraceData& trace)
    : config({{"trace", {{"path", "trace.safetensors"}}},
              {"model", scenario_model()},
              {"device", scenario_device()},
              {"routing", {{"policy", "top_k"}}},
              {"cache", {{"capacity_experts", 8}}},
              {"execution", {{"overlap", "none"}, {"lanes", 2}, {"threads", 4}}}}) {
  write_trace(trace, folder_->path() / "trace.safetensors");
}

ConfigText Scenario::text() const {
  // The file is written too, because a result names and checks its inputs.
  const std::filesystem::path path = folder_->path() / "config.json";
  write_file_atomically(path, [&](std::ostream& out) { out << config.dump(); });
  return load_config(path.string(), {});
}

std::unique_ptr<RunPlan> Scenario::plan() const { return plan_run(text()); }

RunReport Scenario::run() const { return moesim::run(text(), {}); }

}  // namespace moesim::test
