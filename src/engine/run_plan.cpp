#include "engine/run_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "engine/initial_contents.h"

namespace moesim {
namespace {

// What probing a policy that looks ahead is given before the future is known.
FutureAccesses empty_future(const RoutingShape& shape) {
  FutureAccesses future(shape.layers * shape.experts);
  future.finish();
  return future;
}

// C is A computed in another order; a sigmoid gate without groups and bias is both D and E.
bool same_rule(GateCode recorded, GateCode native) {
  const auto rule = [](GateCode code) {
    if (code == GateCode::kC) return GateCode::kA;
    return code == GateCode::kE ? GateCode::kD : code;
  };
  return rule(recorded) == rule(native);
}

}  // namespace

RunPlan::RunPlan(RunConfig config)
    : config_(std::move(config)),
      trace_(Trace::open(config_.trace_path, config_.trace_shown)),
      schedule_(make_schedule(trace_, config_.schedule)) {
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

void RunPlan::check_routing(const RoutingPolicy& routing) const {
  const std::string policy = config_.routing.json().at("policy").get<std::string>();
  const auto refuse = [&](const char* tensor) {
    throw config_.error("/routing/policy",
                        fmt::format("{} needs the tensor {}, which the trace {} lacks", policy,
                                    tensor, trace_.shown()));
  };
  if (routing.needs_logits() && !trace_.has_logits()) refuse("router_logits");
  if (routing.needs_weights() && !trace_.has_logits() && !trace_.has_weights())
    refuse("topk_weights");
}

std::unique_ptr<RoutingPolicy> RunPlan::make_routing(const Section& section) const {
  RoutingContext context{trace_.shape(), gate_, k_, &trace_, config_.seed, {}};
  context.base_dir = config_.base_dir;
  auto routing = Registry<RoutingPolicy>::instance().make(section, context);
  check_routing(*routing);
  return routing;
}

EvictionContext RunPlan::eviction_context(const FutureAccesses* future) const {
  const std::vector<std::uint64_t>& sizes = cache_options_.expert_size;
  const std::size_t partitions =
      cache_options_.scope == CacheScope::kGlobal ? 1 : trace_.shape().layers;
  const std::size_t of_each = sizes.size() / partitions;
  bool equal = true;
  for (std::size_t key = 0; key < sizes.size(); ++key) {
    equal = equal && sizes[key] == sizes[key / of_each * of_each];
  }
  const std::uint64_t all = std::accumulate(sizes.begin(), sizes.end(), std::uint64_t{0});
  const std::uint64_t mean = std::max<std::uint64_t>(all / sizes.size(), 1);
  EvictionContext context{trace_.shape(), partitions, equal, config_.seed, future};
  context.capacity = cache_options_.capacity;
  context.expert_size = sizes;
  context.slots = cache_options_.capacity / mean;
  context.k = k_;
  return context;
}

std::unique_ptr<EvictionPolicy> RunPlan::make_eviction(const Section& section,
                                                       const FutureAccesses* future) const {
  return Registry<EvictionPolicy>::instance().make(section, eviction_context(future));
}

std::unique_ptr<ExpertSession> RunPlan::make_session(
    std::unique_ptr<RoutingPolicy> routing, const Section& section, const CacheOptions& options,
    std::unique_ptr<EvictionPolicy> eviction) const {
  SessionParts parts;
  parts.trace = &trace_;
  parts.gate = gate_;
  parts.k = k_;
  parts.routing = std::move(routing);
  if (config_.schedule.batch.size > 1) {
    parts.lanes.reserve(schedule_.lanes);
    for (std::size_t lane = 0; lane < schedule_.lanes; ++lane) {
      parts.lanes.push_back(make_routing(section));
    }
  }
  parts.cache = std::make_unique<ExpertCache>(options, std::move(eviction));
  parts.expert_bytes = expert_bytes_;
  parts.reset = config_.cache.reset;
  parts.tokens_in_pass = schedule_.tokens_in_pass;
  return std::make_unique<ExpertSession>(std::move(parts));
}

Section RunPlan::named(const std::string& policy, const std::string& pointer) const {
  return {Json{{"policy", policy}}, config_.shown, pointer};
}

AccessLog RunPlan::accesses_of(const Section& routing) const {
  CacheOptions streaming = cache_options_;
  streaming.capacity = 0;
  const auto session = make_session(make_routing(routing), routing, streaming,
                                    make_eviction(named("lru", "/cache/eviction"), nullptr));
  return record_accesses(*session, schedule_, config_.cache.reset);
}

AccessLog RunPlan::native_accesses() const { return accesses_of(named("top_k", "/routing")); }

AccessLog RunPlan::executed_accesses() const { return accesses_of(config_.routing); }

CacheCounts RunPlan::replay_offline(const std::string& policy, const AccessLog& log) const {
  return replay_accesses(log, cache_options_,
                         make_eviction(named(policy, "/cache/eviction"), &log.accesses()));
}

PrefetchContext RunPlan::prefetch_context(const FutureAccesses* future) const {
  PrefetchContext context{trace_.shape(), k_, &trace_, future, config_.seed, gate_, 0, 0};
  if (config_.model) {
    context.router_bytes = bytes_of(config_.model->router_params(), config_.bits.dense);
  }
  const auto first = std::find_if(schedule_.passes.begin(), schedule_.passes.end(),
                                  [](const Pass& pass) { return pass.measured; });
  context.first_measured = first->first;  // make_schedule() refuses a run without one
  return context;
}

void RunPlan::build_session() {
  auto routing = make_routing(config_.routing);
  if (is_mixed()) check_on_miss();
  const FutureAccesses nothing = empty_future(trace_.shape());
  const auto eviction_probe = make_eviction(config_.eviction, &nothing);
  prefetcher_ = Registry<Prefetcher>::instance().make(config_.prefetch, prefetch_context(&nothing));
  const bool prefetch_looks_ahead = prefetcher_->looks_ahead();
  const auto need_future = [&](const Section& section) {
    if (!routing->looks_at_residency()) return;
    throw config_.error(
        section.pointer() + "/policy",
        fmt::format("{} needs to know the future, which does not exist with routing "
                    "{}: its choices depend on the cache",
                    section.json().at("policy").get<std::string>(),
                    config_.routing.json().at("policy").get<std::string>()));
  };
  if (is_mixed() && eviction_probe->looks_ahead()) throw no_future_with_misses(config_.eviction);
  if (eviction_probe->looks_ahead()) need_future(config_.eviction);
  if (prefetch_looks_ahead) need_future(config_.prefetch);
  if (eviction_probe->looks_ahead() || prefetch_looks_ahead) {
    future_ = std::make_unique<AccessLog>(accesses_of(config_.routing));
  }
  const FutureAccesses* future = future_ ? &future_->accesses() : nullptr;
  auto eviction = make_eviction(config_.eviction, future);
  if (!eviction->caveat().empty()) warnings_.push_back(eviction->caveat());
  if (prefetch_looks_ahead) {
    prefetcher_ = Registry<Prefetcher>::instance().make(config_.prefetch, prefetch_context(future));
  }
  if (prefetcher_->active() && !config_.device) {
    throw config_.error("/prefetch/policy",
                        "expected none, because without a device there is no "
                        "time in which to read ahead");
  }
  if (prefetcher_->active() && cache_options_.capacity == 0) {
    throw config_.error("/prefetch/policy",
                        "expected none, because a cache of capacity 0 has no "
                        "room for what is read ahead");
  }
  session_ = is_mixed() ? make_mixed_session(std::move(routing))
                        : make_session(std::move(routing), config_.routing, cache_options_,
                                       std::move(eviction));
}

void RunPlan::build_simulation() {
  costs_.emplace(*config_.model, *config_.device, config_.bits, config_.execution,
                 expert_formats());
  SimulationParts parts;
  parts.model = &*config_.model;
  parts.device = &*config_.device;
  parts.costs = &*costs_;
  parts.execution = config_.execution;
  parts.session = session_.get();
  parts.prefetcher = prefetcher_.get();
  tiers_ =
      make_tiered_store(config_.tiers, config_.shown, expert_bytes_, eviction_context(nullptr));
  parts.tiers = tiers_.get();
  parts.schedule = &schedule_;
  parts.seed = config_.seed;
  simulation_ = std::make_unique<DecodeSimulation>(parts);
}

std::vector<std::string> RunPlan::tier_names() const {
  std::vector<std::string> names;
  names.reserve(config_.tiers.size());
  for (const TierConfig& tier : config_.tiers) names.push_back(tier.name);
  return names;
}

std::string RunPlan::belady_caveat() const {
  const FutureAccesses nothing = empty_future(trace_.shape());
  return make_eviction(named("belady", "/cache/eviction"), &nothing)->caveat();
}

}  // namespace moesim
