#include "engine/run_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "engine/initial_contents.h"

namespace moesim {
namespace {

// C is A computed in another order; a sigmoid gate without groups and bias is both D and E.
bool same_rule(GateCode recorded, GateCode native) {
  const auto rule = [](GateCode code) {
    if (code == GateCode::kC) return GateCode::kA;
    return code == GateCode::kE ? GateCode::kD : code;
  };
  return rule(recorded) == rule(native);
}

TokenSchedule schedule_of(const RunConfig& config, const Trace& trace) {
  try {
    return make_schedule(trace, config.schedule);
  } catch (const UserError& error) {
    throw config.error("/trace", error.what());
  }
}

}  // namespace

RunPlan::RunPlan(RunConfig config, RunShare* share)
    : config_(std::move(config)),
      share_(share),
      trace_(config_.trace       ? *config_.trace
             : share_ != nullptr ? share_->trace(config_.trace_path, config_.trace_shown)
                                 : Trace::open(config_.trace_path, config_.trace_shown)),
      schedule_(schedule_of(config_, trace_)) {
  check_shapes();
  choose_gate();
  choose_k();
  check_gate();
  batch_sequences();
  size_experts();
  size_low_precision();
  size_cache();
  build_session();
  if (config_.device) build_simulation();
  warn_about_traps();
}

void RunPlan::check_shapes() {
  if (!config_.model) return;
  const MoeModel& model = *config_.model;
  const RoutingShape shape = trace_.shape();
  const auto refuse = [&](const char* what, std::size_t expected, std::size_t got) {
    throw config_.error("/trace/path",
                        fmt::format("{}: expected {} {} as in the model {}, got {}", trace_.shown(),
                                    expected, what, model.name, got));
  };
  if (shape.layers != model.moe_layers.size()) {
    refuse("MoE layers", model.moe_layers.size(), shape.layers);
  }
  if (shape.experts != model.num_experts) refuse("experts", model.num_experts, shape.experts);
}

// The trace's gate and k drive routing, for they made the recording; the model fills in what the
// trace does not say.
void RunPlan::choose_gate() {
  if (config_.model) gate_ = config_.model->gate;
  const auto recorded = parse_gate_code(trace_.gate());
  if (recorded && !(config_.model && same_rule(*recorded, gate_.code))) {
    if (config_.model) {
      warnings_.push_back(
          fmt::format("the trace was recorded with gate {}, the model {} has gate {}: "
                      "routing follows the trace",
                      to_string(*recorded), config_.model->name, to_string(gate_.code)));
    }
    gate_ = {};
    gate_.code = *recorded;
    if (trace_.gate().size() > 1) {
      warnings_.push_back(
          fmt::format("of the trace's gate {} only the letter is used: groups and "
                      "factors come from a model with that gate",
                      trace_.gate()));
    }
  }
  if (!recorded && !config_.model) {
    warnings_.push_back(
        "neither the trace nor a model says which gate the router has: A is assumed "
        "(softmax, renormalised over the selected)");
  }
  const bool has_bias = trace_.has_tensor("selection_bias");
  if (gate_.selection_bias && trace_.has_logits() && !has_bias) {
    warnings_.push_back(
        "the model selects with a bias that the trace lacks (tensor selection_bias): "
        "the native selections are those without it");
  }
  gate_.selection_bias = has_bias;
}

void RunPlan::choose_k() {
  if (config_.k) {
    k_ = *config_.k;
  } else if (trace_.top_k()) {
    k_ = *trace_.top_k();
  } else if (config_.model) {
    k_ = config_.model->num_experts_per_tok;
  } else {
    throw config_.error("/routing/k", "missing key: neither the trace nor a model gives k");
  }
  const RoutingShape shape = trace_.shape();
  if (k_ > shape.experts) {
    throw config_.error(
        "/routing/k",
        fmt::format("expected at most the {} experts of a layer, got {}", shape.experts, k_));
  }
  if (!trace_.has_logits() && k_ > trace_.recorded_k()) {
    throw config_.error(
        "/routing/k",
        fmt::format("expected at most {}, got {}: the trace {} records {} experts per "
                    "token and no router_logits",
                    trace_.recorded_k(), k_, trace_.shown(), trace_.recorded_k()));
  }
  if (!trace_.has_logits() && !trace_.ranked() && k_ < trace_.recorded_k()) {
    throw config_.error("/routing/k",
                        fmt::format("expected {}, got {}: the trace {} does not say which of its "
                                    "experts are best",
                                    trace_.recorded_k(), k_, trace_.shown()));
  }
}

// A gate that fixes k, or groups that leave too few experts, are the configuration's mistake.
void RunPlan::check_gate() const {
  try {
    Gate(gate_, trace_.shape().experts, k_);
  } catch (const UserError& error) {
    throw config_.error("/routing/k", error.what());
  }
}

void RunPlan::size_experts() {
  const RoutingShape shape = trace_.shape();
  expert_bytes_.assign(shape.layers * shape.experts, 0);
  if (config_.allocation) {
    size_allocated_experts();
    return;
  }
  knows_bytes_ = true;
  for (std::size_t layer = 0; layer < shape.layers; ++layer) {
    std::uint64_t bytes = 0;
    if (const auto recorded = trace_.expert_bytes(static_cast<LayerId>(layer))) {
      bytes = *recorded;
    } else if (config_.model) {
      bytes = bytes_of(config_.model->expert_params(), config_.bits.expert);
    } else {
      knows_bytes_ = false;
    }
    std::fill_n(expert_bytes_.begin() + static_cast<std::ptrdiff_t>(layer * shape.experts),
                shape.experts, bytes);
  }
}

void RunPlan::size_cache() {
  const CacheConfig& cache = config_.cache;
  const RoutingShape shape = trace_.shape();
  const bool global = cache.scope == CacheScope::kGlobal;
  const std::size_t most = global ? shape.layers * shape.experts : shape.experts;
  cache_options_.shape = shape;
  cache_options_.scope = cache.scope;
  cache_options_.accounting = cache.accounting;
  cache_options_.touch_order = cache.touch_order;
  cache_options_.overflow = cache.overflow;
  cache_options_.cold_start = cache.cold_start;
  cache_options_.expert_size.assign(shape.layers * shape.experts, 1);
  if (cache.capacity.experts) {
    cache_options_.capacity = *cache.capacity.experts;
    if (*cache.capacity.experts > most) {
      throw config_.error(
          "/cache/capacity_experts",
          fmt::format("expected an integer in [0, {}], got {}", most, *cache.capacity.experts));
    }
  } else if (cache.capacity.fraction) {
    // The slack undoes the error of a decimal fraction in binary: 0.7 of 1440 is 1008.
    cache_options_.capacity = static_cast<std::uint64_t>(
        std::floor(*cache.capacity.fraction * static_cast<double>(most) + 1e-6));
  } else {
    if (!knows_bytes_) {
      throw config_.error("/cache/capacity_mib",
                          "expected a capacity in experts, got MiB: neither "
                          "the trace nor a model says how large an expert is");
    }
    const double bytes = *cache.capacity.mib * static_cast<double>(kMiB);
    cache_options_.capacity = static_cast<std::uint64_t>(bytes) / (global ? 1 : shape.layers);
    cache_options_.expert_size = expert_bytes_;
  }
  if (is_mixed() && !cache.capacity.mib) count_capacity_in_bytes();
  if (cache.overflow == Overflow::kTrim && cache_options_.capacity > 0) {
    const std::uint64_t largest =
        *std::max_element(cache_options_.expert_size.begin(), cache_options_.expert_size.end());
    const std::uint64_t holds = cache_options_.capacity / largest;
    if (holds < k_) {
      throw config_.error("/cache",
                          fmt::format("expected a capacity of 0 or at least k = {} experts "
                                      "{} with overflow \"trim\", got {}",
                                      k_, global ? "in all" : "per layer", holds));
    }
  }
  const InitialContext context{&trace_, gate_, k_, cache.reset == CacheReset::kSequence,
                               config_.seed};
  cache_options_.initial = initial_contents(config_.cache.initial, cache_options_, context,
                                            config_.shown + ": /cache/initial");
}

}  // namespace moesim
