// What the experts and the cache of a run weigh: experts of unequal size, and the two precisions
// that a miss may choose from.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/run_plan.h"

namespace moesim {

void RunPlan::size_allocated_experts() {
  const ExpertAllocation& allocation = *config_.allocation;
  if (!config_.model) {
    throw config_.error("/weights/allocation",
                        "expected a model, whose expert weights the bits are multiplied with");
  }
  allocation.require(trace_.shape(), "the trace " + trace_.shown());
  const std::uint64_t params = config_.model->expert_params();
  for (std::size_t key = 0; key < expert_bytes_.size(); ++key) {
    expert_bytes_[key] = bytes_of(params, allocation.bits[key] + allocation.overhead_bits);
  }
  knows_bytes_ = true;
}

void RunPlan::size_low_precision() {
  if (!is_mixed()) return;
  if (!config_.model) {
    throw config_.error("/weights/on_miss",
                        "expected a model, whose expert weights low_bits is multiplied with");
  }
  const std::uint64_t bytes = bytes_of(config_.model->expert_params(), config_.on_miss.low_bits);
  const std::uint64_t smallest = *std::min_element(expert_bytes_.begin(), expert_bytes_.end());
  if (bytes >= smallest) {
    throw config_.error("/weights/on_miss/low_bits",
                        fmt::format("expected less than the smallest expert has at full precision, "
                                    "{} bytes, got {} bits, {} bytes",
                                    smallest, config_.on_miss.low_bits, bytes));
  }
  low_bytes_.assign(expert_bytes_.size(), bytes);
}

// Two precisions do not weigh the same, so a capacity in experts means that of so many experts at
// full precision and of mean size.
void RunPlan::count_capacity_in_bytes() {
  const std::uint64_t all =
      std::accumulate(expert_bytes_.begin(), expert_bytes_.end(), std::uint64_t{0});
  cache_options_.capacity =
      static_cast<std::uint64_t>(Wide{cache_options_.capacity} * all / expert_bytes_.size());
  cache_options_.expert_size = expert_bytes_;
}

void RunPlan::check_on_miss() const {
  if (!trace_.has_logits() && !(trace_.has_weights() && trace_.ranked())) {
    throw config_.error(
        "/weights/on_miss/policy",
        fmt::format("the class of a miss needs the tensor router_logits, or topk_weights with the "
                    "best first, which the trace {} lacks",
                    trace_.shown()));
  }
  if (config_.prefetch.json().at("policy") != "none") {
    throw config_.error("/prefetch/policy",
                        "expected none, because weights.on_miss decides what is read when an "
                        "expert is missed");
  }
  const auto refuse = [&](const char* pointer, const char* expected, const char* why) {
    throw config_.error(pointer,
                        fmt::format("expected {} with weights.on_miss, because {}", expected, why));
  };
  if (config_.schedule.batch.size > 1) {
    refuse("/execution/batch", "1", "the class of a miss is that of one token");
  }
  if (!config_.tiers.empty()) {
    refuse("/device", "a device without tiers", "a tier holds experts of one precision");
  }
  if (config_.cache.initial.kind != InitialKind::kEmpty) {
    refuse("/cache/initial", "empty", "contents do not say at which precision");
  }
  if (config_.cache.cold_start != ColdStart::kStrict) {
    refuse("/cache/cold_start", "strict", "that rule knows one item per expert");
  }
}

UserError RunPlan::no_future_with_misses(const Section& section) const {
  return config_.error(section.pointer() + "/policy",
                       fmt::format("{} needs to know the future, which does not exist with "
                                   "weights.on_miss: what runs depends on the cache",
                                   section.json().at("policy").get<std::string>()));
}

std::unique_ptr<ExpertSession> RunPlan::make_mixed_session(
    std::unique_ptr<RoutingPolicy> routing) const {
  const MixedPrecision items(config_.on_miss, trace_.shape(), expert_bytes_, low_bytes_);
  CacheOptions options = cache_options_;
  options.shape.experts *= 2;
  options.expert_size = items.item_bytes();
  EvictionContext context = eviction_context(nullptr);
  context.shape = options.shape;
  context.equal_sizes = false;
  context.expert_size = options.expert_size;
  SessionParts parts;
  parts.trace = &trace_;
  parts.gate = gate_;
  parts.k = k_;
  parts.routing = std::move(routing);
  parts.cache = std::make_unique<ExpertCache>(
      options, Registry<EvictionPolicy>::instance().make(config_.eviction, context));
  parts.expert_bytes = expert_bytes_;
  parts.reset = config_.cache.reset;
  parts.on_miss = config_.on_miss;
  parts.low_bytes = low_bytes_;
  return std::make_unique<ExpertSession>(std::move(parts));
}

// Nothing where one format serves all experts.
std::vector<ExpertFormat> RunPlan::expert_formats() const {
  std::vector<ExpertFormat> formats;
  if (!config_.allocation && !is_mixed()) return formats;
  const auto add = [&](std::uint64_t bytes, double bits) {
    const bool known = std::any_of(formats.begin(), formats.end(), [&](const ExpertFormat& format) {
      return format.expert_bytes == bytes;
    });
    if (!known) formats.push_back({bytes, bits});
  };
  for (std::size_t key = 0; key < expert_bytes_.size(); ++key) {
    add(expert_bytes_[key],
        config_.allocation ? config_.allocation->bits[key] : config_.bits.expert);
  }
  if (is_mixed()) add(low_bytes_.front(), config_.on_miss.low_bits);
  return formats;
}

std::uint64_t RunPlan::layer_sum(const std::vector<std::uint64_t>& values,
                                 std::size_t layer) const {
  const std::size_t experts = trace_.shape().experts;
  const auto first = values.begin() + static_cast<std::ptrdiff_t>(layer * experts);
  return std::accumulate(first, first + static_cast<std::ptrdiff_t>(experts), std::uint64_t{0});
}

std::uint64_t RunPlan::token_cycle_bytes() const {
  std::uint64_t total = 0;
  for (std::size_t layer = 0; layer < trace_.shape().layers; ++layer) {
    total += k_ * layer_sum(expert_bytes_, layer) / trace_.shape().experts;
  }
  return total;
}

std::uint64_t RunPlan::cache_bytes() const {
  const std::size_t partitions =
      cache_options_.scope == CacheScope::kGlobal ? 1 : trace_.shape().layers;
  const std::uint64_t all =
      std::accumulate(expert_bytes_.begin(), expert_bytes_.end(), std::uint64_t{0});
  // No more than there is; the low-order slices are part of the experts, the low copies are not.
  if (is_mixed()) {
    const bool copies = config_.on_miss.policy == MissPolicy::kHobbit;
    const std::uint64_t low =
        std::accumulate(low_bytes_.begin(), low_bytes_.end(), std::uint64_t{0});
    return std::min(copies ? all + low : all, cache_options_.capacity * partitions);
  }
  if (config_.cache.capacity.mib) return std::min(all, cache_options_.capacity * partitions);
  // A capacity in experts is counted with their mean size, of the layer or of all.
  if (cache_options_.scope == CacheScope::kLayer) {
    std::uint64_t total = 0;
    for (std::size_t layer = 0; layer < partitions; ++layer) {
      total += cache_options_.capacity * layer_sum(expert_bytes_, layer) / trace_.shape().experts;
    }
    return total;
  }
  return cache_options_.capacity * all / expert_bytes_.size();
}

MemoryDemand RunPlan::memory_demand() const {
  const auto bytes = [](double mib) {
    return static_cast<std::uint64_t>(std::llround(mib * static_cast<double>(kMiB)));
  };
  const std::vector<std::uint64_t> kv = kv_bytes_by_pass(schedule_, *costs_);
  const MoeModel& model = *config_.model;
  const std::uint64_t table =
      model.tie_word_embeddings ? 0 : bytes_of(model.embedding_params(), config_.bits.dense);
  return {bytes(config_.memory.app_budget_mib),
          costs_->dense_bytes(),
          bytes(config_.memory.buffers_mib),
          *std::max_element(kv.begin(), kv.end()),
          cache_bytes(),
          table};
}

}  // namespace moesim
