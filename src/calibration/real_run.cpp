#include "calibration/real_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "core/errors.h"

namespace moesim {
namespace {

// Bits per weight with the scales of the blocks, as kernels/weight_matrix.h stores them.
std::optional<WeightFormat> format_of(double bits) {
  if (bits == 16) return WeightFormat::kFp16;
  if (bits == 8.5) return WeightFormat::kQ8;
  if (bits == 4.5) return WeightFormat::kQ4;
  return std::nullopt;
}

// How the real decode loop ends every refusal.
UserError cannot(const RunConfig& config, const char* pointer, const std::string& expected) {
  return config.error(pointer, fmt::format("expected {} for the real decode loop", expected));
}

void require_formats(const RunPlan& plan) {
  const RunConfig& config = plan.config();
  for (const auto& [pointer, bits] : {std::pair{"/weights/expert_bits", config.bits.expert},
                                      std::pair{"/weights/dense_bits", config.bits.dense}}) {
    if (format_of(bits)) continue;
    throw cannot(config, pointer,
                 fmt::format("16 (fp16), 8.5 or 4.5 (blocks of 32 with a scale), got {},", bits));
  }
  if (config.allocation) throw cannot(config, "/weights/allocation", "none");
  if (plan.is_mixed()) throw cannot(config, "/weights/on_miss", "the policy full");
}

void require_model(const RunPlan& plan) {
  const RunConfig& config = plan.config();
  const MoeModel& model = *config.model;
  if (model.expert_matrices != 3 || model.expert_bias) {
    throw cannot(config, "/model", "experts of gate, up and down without biases");
  }
  const std::size_t bytes = RecordLayout(store_shape(plan, 0)).expert_bytes();
  for (const std::uint64_t size : plan.expert_bytes()) {
    if (size == bytes) continue;
    throw cannot(config, "/model",
                 fmt::format("experts of {} bytes each, which are what its matrices take, got one "
                             "of {} (from the trace's expert_bytes, or columns that 32 does not "
                             "divide),",
                             bytes, size));
  }
}

void require_execution(const RunConfig& config) {
  const ExecutionOptions& execution = config.execution;
  if (execution.dense_agent != kCpuAgent || execution.expert_agent != kCpuAgent) {
    throw cannot(config, "/execution/agents", "the cpu for all work");
  }
  if (execution.bounce.value_or(false)) throw cannot(config, "/execution/bounce", "false");
  if (execution.clock != 1) {
    throw cannot(config, "/execution/clock_ghz", "the device's own clock");
  }
  if (execution.thermal != ThermalStart::kOff) throw cannot(config, "/execution/thermal", "off");
  if (execution.service_noise) throw cannot(config, "/execution/service_noise", "false");
  if (execution.threads > ThreadTeam::kMaxThreads) {
    throw cannot(config, "/execution/threads", fmt::format("at most {}", ThreadTeam::kMaxThreads));
  }
}

void require_schedule(const RunPlan& plan) {
  const RunConfig& config = plan.config();
  if (plan.schedule().prefill_tokens > 0) {
    throw cannot(config, "/trace/prefill", "skip, because the trace has prompt tokens");
  }
  if (config.schedule.batch.size > 1) throw cannot(config, "/execution/batch", "1");
  if (config.prefetch.json().at("policy") != "none") {
    throw cannot(config, "/prefetch/policy", "none");
  }
  if (config.cache.cold_start != ColdStart::kStrict) {
    throw cannot(config, "/cache/cold_start", "strict, because what was never read is not there");
  }
}

void require_memory(const RunPlan& plan) {
  const RunConfig& config = plan.config();
  if (!config.tiers.empty()) throw cannot(config, "/device", "flash without tiers before it");
  if (config.device->memory.admit_us_per_page > 0) {
    throw cannot(config, "/memory/expert_pages",
                 "reserved, because memory is committed before the first token,");
  }
  if (plan.reclaims()) {
    throw cannot(config, "/memory/app_budget_mib",
                 fmt::format("at least the {:.0f} MiB that the run holds",
                             to_mib(memory_needed(plan).total())));
  }
}

}  // namespace

void require_real(const RunPlan& plan) {
  const RunConfig& config = plan.config();
  if (!config.device) throw cannot(config, "/device", "a device");
  require_formats(plan);
  require_model(plan);
  require_execution(config);
  require_schedule(plan);
  require_memory(plan);
}

StoreShape store_shape(const RunPlan& plan, std::uint64_t seed) {
  const MoeModel& model = *plan.config().model;
  const RoutingShape shape = plan.trace().shape();
  return {shape.layers,
          shape.experts,
          model.hidden_size,
          model.moe_intermediate_size,
          format_of(plan.config().bits.expert).value_or(WeightFormat::kFp16),
          seed};
}

WeightFormat dense_format(const RunPlan& plan) {
  return format_of(plan.config().bits.dense).value_or(WeightFormat::kFp16);
}

std::uint32_t longest_context(const RunPlan& plan) {
  std::uint32_t longest = 0;
  for (const Pass& pass : plan.schedule().passes) longest = std::max(longest, pass.position);
  return longest;
}

std::size_t slots_needed(const RunPlan& plan) {
  const CacheOptions& cache = plan.cache_options();
  const RoutingShape shape = plan.trace().shape();
  const bool global = cache.scope == CacheScope::kGlobal;
  const std::size_t partitions = global ? 1 : shape.layers;
  const std::size_t experts = global ? shape.layers * shape.experts : shape.experts;
  // Experts are of one size, in whatever unit.
  const std::size_t fit = cache.capacity / cache.expert_size.front();
  const std::size_t visit = plan.session().max_visit_experts();
  const bool keeps = cache.overflow == Overflow::kKeepEvent;
  const std::size_t held = std::min(experts, keeps ? fit + visit : fit);
  return std::min(partitions * held + visit, shape.layers * shape.experts);
}

RealMemory memory_needed(const RunPlan& plan) {
  RealMemory memory;
  const RunConfig& config = plan.config();
  memory.dense =
      DenseWeights::bytes(*config.model, *plan.costs(), dense_format(plan), longest_context(plan));
  if (config.execution.read_path == ReadPath::kDirect) {
    memory.experts = slots_needed(plan) * RecordLayout(store_shape(plan, 0)).record_bytes();
  } else {
    memory.experts = slots_needed(plan) * plan.expert_bytes().front();  // in the page cache
  }
  return memory;
}

}  // namespace moesim
