#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "report/run_report.h"

namespace moesim {
namespace {

std::string tags_of(const Device& device) {
  std::string text;
  std::size_t all = 0;
  for (const auto& [tag, count] : device.count_tags()) {
    if (count == 0) continue;
    all += count;
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, tag);
  }
  return fmt::format("of its {} numbers {}", all, text);
}

}  // namespace

RunFacts describe_run(const RunPlan& plan) {
  const RunConfig& config = plan.config();
  const Trace& trace = plan.trace();
  RunFacts facts;
  facts.config = config.resolved;
  facts.config["routing"]["k"] = plan.k();
  facts.trace_path = config.trace_shown;
  facts.trace_model = trace.model();
  facts.trace_provenance = trace.provenance();
  facts.trace_form = trace.has_logits() ? "full router logits"
                                        : fmt::format("top-{} expert ids", trace.recorded_k());
  if (config.model) facts.model = config.model->name;
  if (config.device) {
    facts.device = config.device->name;
    facts.device_tags = tags_of(*config.device);
  }
  const auto& bytes = plan.expert_bytes();
  const std::uint64_t all = std::accumulate(bytes.begin(), bytes.end(), std::uint64_t{0});
  facts.expert_mib = to_mib(all) / static_cast<double>(bytes.size());
  facts.expert_bits = trace.expert_bytes(LayerId{0}) ? 0 : config.bits.expert;
  if (config.allocation) {
    facts.allocated = true;
    facts.expert_bits = config.allocation->mean_bits() + config.allocation->overhead_bits;
  }
  facts.smallest_expert = *std::min_element(bytes.begin(), bytes.end());
  facts.largest_expert = *std::max_element(bytes.begin(), bytes.end());
  facts.layers = trace.shape().layers;
  facts.experts = trace.shape().experts;
  facts.k = plan.k();
  facts.cache_mib = to_mib(plan.cache_bytes());
  facts.all_experts_mib = to_mib(all);
  if (all > 0) {
    facts.cached_fraction = facts.cache_mib / facts.all_experts_mib;
  } else {
    const bool layer = config.cache.scope == CacheScope::kLayer;
    facts.cached_fraction = static_cast<double>(plan.cache_options().capacity) /
                            static_cast<double>(layer ? facts.experts : bytes.size());
  }
  return facts;
}

}  // namespace moesim
