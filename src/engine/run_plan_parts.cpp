// The objects of a run: policies with what they must know, the session, the simulation, and the
// replays that offline policies and bounds need.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "engine/run_plan.h"

namespace moesim {
namespace {

// What probing a policy that looks ahead is given before the future is known.
FutureAccesses empty_future(const RoutingShape& shape) {
  FutureAccesses future(shape.layers * shape.experts);
  future.finish();
  return future;
}

}  // namespace

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
    std::unique_ptr<RoutingPolicy> routing, const CacheOptions& options,
    std::unique_ptr<EvictionPolicy> eviction) const {
  SessionParts parts;
  parts.trace = &trace_;
  parts.gate = gate_;
  parts.k = k_;
  parts.routing = std::move(routing);
  if (config_.schedule.batch.size > 1) parts.lanes = schedule_.lanes;
  parts.cache = std::make_unique<ExpertCache>(options, std::move(eviction));
  parts.expert_bytes = expert_bytes_;
  parts.reset = config_.cache.reset;
  parts.tokens_in_pass = schedule_.tokens_in_pass;
  return std::make_unique<ExpertSession>(std::move(parts));
}

Section RunPlan::named(const std::string& policy, const std::string& pointer) const {
  return {Json{{"policy", policy}}, config_.shown, pointer};
}

// All but what the cache and the machine do: neither changes what a routing accesses that looks at
// neither.
std::string RunPlan::key_of(const Section& routing) const {
  Json key = config_.resolved;
  key["routing"] = routing.json();
  key["k"] = k_;
  for (const char* part : {"device", "prefetch", "memory"}) key.erase(part);
  // In a batch the rule of accounting decides the order of what is accessed.
  const Json& cache = config_.resolved.at("cache");
  key["cache"] = {{"reset", cache.at("reset")}, {"accounting", cache.at("accounting")}};
  return key.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string RunPlan::native_key() const { return key_of(named("top_k", "/routing")); }
std::string RunPlan::executed_key() const {
  return is_native() ? native_key() : key_of(config_.routing);
}

std::shared_ptr<const AccessLog> RunPlan::accesses_of(const Section& routing) const {
  if (share_ == nullptr) return std::make_shared<const AccessLog>(record_accesses_of(routing));
  return share_->accesses(key_of(routing), [&] { return record_accesses_of(routing); });
}

AccessLog RunPlan::record_accesses_of(const Section& routing) const {
  CacheOptions streaming = cache_options_;
  streaming.capacity = 0;
  const auto session = make_session(make_routing(routing), streaming,
                                    make_eviction(named("lru", "/cache/eviction"), nullptr));
  return record_accesses(*session, schedule_, config_.cache.reset);
}

std::shared_ptr<const AccessLog> RunPlan::native_accesses() const {
  return accesses_of(named("top_k", "/routing"));
}

std::shared_ptr<const AccessLog> RunPlan::executed_accesses() const {
  return is_native() ? native_accesses() : accesses_of(config_.routing);
}

ReplayCounts RunPlan::replay_configured(const AccessLog& log) const {
  return replay_accesses(log, cache_options_, make_eviction(config_.eviction, &log.accesses()),
                         expert_bytes_);
}

CacheCounts RunPlan::replay_offline(const std::string& policy, const AccessLog& log) const {
  return replay_accesses(log, cache_options_,
                         make_eviction(named(policy, "/cache/eviction"), &log.accesses()),
                         expert_bytes_)
      .measured;
}

PrefetchContext RunPlan::prefetch_context(const FutureAccesses* future) const {
  PrefetchContext context{trace_.shape(), k_, &trace_, future, config_.seed, gate_, 0, 0, 0};
  if (config_.model) {
    context.router_bytes = bytes_of(config_.model->router_params(), config_.bits.dense);
  }
  const auto first = std::find_if(schedule_.passes.begin(), schedule_.passes.end(),
                                  [](const Pass& pass) { return pass.measured; });
  context.first_measured = first->first;  // make_schedule() refuses a run without one
  for (const Pass& pass : schedule_.passes) {
    for (const PassToken& token : pass.tokens) {
      if (pass.measured) context.first_measured = std::min(context.first_measured, token.row);
    }
  }
  context.visit_experts = std::min(trace_.shape().experts, k_ * schedule_.tokens_in_pass);
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
    future_ = executed_accesses();
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
                        : make_session(std::move(routing), cache_options_, std::move(eviction));
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
  build_arena();
  parts.arena = arena_.get();
  parts.schedule = &schedule_;
  parts.seed = config_.seed;
  simulation_ = std::make_unique<DecodeSimulation>(parts);
}

void RunPlan::build_arena() {
  ArenaParts parts;
  parts.demand = memory_demand();
  if (parts.demand.over_budget() == 0 || config_.device->memory.zram_gbps == 0) return;
  parts.session = session_.get();
  parts.device = &*config_.device;
  parts.kv_by_pass = kv_bytes_by_pass(schedule_, *costs_);
  parts.dense_pages = config_.memory.dense_pages;
  parts.execution = config_.execution;
  parts.hidden_layers = config_.model->num_hidden_layers;
  parts.reset = config_.cache.reset;
  arena_ = std::make_unique<MemoryArena>(std::move(parts));
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
