#include "engine/decode_simulation.h"

#include <algorithm>
#include <limits>

#include "core/errors.h"
#include "engine/critical_path.h"

namespace moesim {
namespace {

TokenGraphOptions graph_options(const SimulationParts& parts, std::size_t slots) {
  return {slots, parts.execution.overlap, parts.session->routing().max_executions()};
}

// Experts that may be read ahead at one moment.
std::uint64_t most_read_at_once(const SimulationParts& parts) {
  const RoutingShape shape = parts.session->shape();
  std::uint64_t smallest = std::numeric_limits<std::uint64_t>::max();
  for (std::size_t key = 0; key < shape.layers * shape.experts; ++key) {
    smallest = std::min(smallest, parts.session->expert_bytes(static_cast<ExpertKey>(key)));
  }
  return std::min<std::uint64_t>(
      {shape.layers * shape.experts, parts.prefetcher->distance() * shape.experts,
       parts.prefetcher->max_outstanding_bytes() / std::max<std::uint64_t>(smallest, 1)});
}

// Reads of one expert.
std::size_t most_reads(const SimulationParts& parts) {
  if (parts.execution.read_path == ReadPath::kMmap) return kMostReads;
  return parts.session->reads_in_parts() ? 6 : 3;
}

// Jobs and reads of one pass, and what speculation may begin beside it: as much as may be under way
// after each layer, and one expert for each that has been computed, with three reads and an
// admission each. Few without speculation, so that they stay in cache.
std::size_t record_capacity(const SimulationParts& parts) {
  const RoutingShape shape = parts.session->shape();
  const bool has_prefill = parts.schedule->prefill_tokens > 0;
  const std::size_t slots = has_prefill ? shape.experts : parts.session->max_visit_experts();
  const std::size_t page_work = parts.arena != nullptr ? 1 : 0;  // beside each admission
  const std::size_t reads = most_reads(parts) + page_work;
  const std::size_t blocks = shape.layers * parts.session->routing().max_executions();
  const std::size_t mixers = parts.model->num_hidden_layers + blocks - shape.layers;
  const std::size_t pass = blocks * (reads * slots + 4) + 2 * mixers + 64;
  if (!parts.prefetcher->active()) return pass;
  const std::size_t ahead = (shape.layers + 2) * (most_read_at_once(parts) + slots);
  return pass + 4 * std::max(ahead, shape.layers * shape.experts) + 2 * parts.execution.lanes;
}

FlashPathOptions flash_options(const SimulationParts& parts) {
  const bool noisy = parts.execution.service_noise && parts.device->flash;
  const double sigma = noisy ? parts.device->flash->noise_sigma : 0.0;
  FlashPathOptions options{parts.execution.lanes, record_capacity(parts),
                           parts.session->shape().experts, sigma, parts.seed};
  options.bounce = parts.execution.bounce;
  const std::size_t keys = parts.session->shape().layers * parts.session->shape().experts;
  for (std::size_t key = 0; key < keys; ++key) {
    options.range_bytes += parts.session->expert_bytes(static_cast<ExpertKey>(key));
  }
  return options;
}

}  // namespace

DecodeSimulation::DecodeSimulation(const SimulationParts& parts)
    : parts_(parts),
      costs_(*parts.costs),
      shape_(parts.session->shape()),
      token_graph_(build_token_graph(*parts.model,
                                     graph_options(parts, parts.session->max_visit_experts()))),
      bus_(to_rate(parts.device->dram.total_gbps), queue_),
      compute_(queue_, bus_, record_capacity(parts)),
      store_(*parts.device, flash_options(parts), shape_.layers * shape_.experts, queue_, bus_),
      forecast_(*parts.prefetcher, shape_),
      speculative_transfer_(shape_.layers * shape_.experts, kNoId) {
  parts_.costs = &costs_;
  watch_cores();
  begin_heat();
  std::size_t tasks = token_graph_.size();
  if (parts.schedule->prefill_tokens > 0) {
    prefill_graph_ = std::make_unique<CompiledGraph>(
        build_token_graph(*parts.model, {shape_.experts, parts.execution.overlap, 1}));
    tasks = std::max(tasks, prefill_graph_->size());
  }
  queue_.reserve(parts.execution.lanes * 2 + 64);
  pending_.reserve(tasks);
  causes_.resize(tasks);
  executions_.resize(parts.model->num_hidden_layers, 1);
  layer_executions_.resize(shape_.layers, 1);
  dependency_finish_.resize(tasks);
  ready_.reserve(tasks);
  slots_.reserve(shape_.experts);
  executed_.reserve(shape_.experts);
  pass_rows_.reserve(parts.schedule->tokens_in_pass);
  missed_.reserve(shape_.experts);
  tiers_counted_.resize(parts.device->tiers.size());
  tiers_of_pass_.resize(parts.device->tiers.size());
}

void DecodeSimulation::run(std::size_t first, std::size_t end, RunObserver* observer, bool spans) {
  observer_ = observer;
  compute_.set_observer(spans ? observer : nullptr);
  store_.set_observer(spans ? observer : nullptr);
  for (std::size_t i = first; i < end; ++i) run_pass(parts_.schedule->passes[i]);
}

void DecodeSimulation::run_pass(const Pass& pass) {
  pass_ = &pass;
  graph_ = pass.phase == Phase::kPrefill ? prefill_graph_.get() : &token_graph_;
  pending_.assign(graph_->predecessor_counts().begin(), graph_->predecessor_counts().end());
  std::fill_n(dependency_finish_.begin(), graph_->size(), Duration::zero());
  record_ = {};
  pass_done_ = false;
  compute_.begin_pass();
  parts_.session->begin_pass(pass);
  pass_rows_.clear();
  for (const PassToken& token : pass.tokens) pass_rows_.push_back(token.row);
  if (parts_.arena != nullptr) {
    const Pass* first = parts_.schedule->passes.data();
    parts_.arena->begin_pass(pass, static_cast<std::size_t>(&pass - first));
  }
  plan_layers(pass);
  const TimePoint start = queue_.now();
  causes_[0] = {};
  ready_.push_back(0);
  if (forecast_.active()) begin_forecast(pass);
  start_ready_tasks();
  run_events(queue_, *this, [this] { return pass_done_; });
  if (!pass_done_) throw InvariantError("a pass came to a halt before its end");
  report(pass, start);
}

// Hidden layers without experts are in no plan: they run once.
void DecodeSimulation::plan_layers(const Pass& pass) {
  for (std::size_t layer = 0; layer < shape_.layers; ++layer) {
    layer_executions_[layer] = parts_.session->executions(pass, static_cast<LayerId>(layer));
    executions_[parts_.model->moe_layers[layer]] = layer_executions_[layer];
  }
  const bool planned = std::any_of(layer_executions_.begin(), layer_executions_.end(),
                                   [](std::uint32_t count) { return count != 1; });
  forecast_.set_executions(planned ? layer_executions_ : std::span<const std::uint32_t>());
}

void DecodeSimulation::report(const Pass& pass, TimePoint start) {
  record_.pass = &pass;
  record_.start = start;
  record_.end = queue_.now();
  record_.parts = compute_.parts();
  record_.path = critical_path(compute_, store_, last_job_, start);
  const CacheCounts& counts = parts_.session->accounting().counts();
  record_.cache = counts - counted_;
  counted_ = counts;
  record_.flash = store_.flash_counts() - flash_counted_;
  flash_counted_ = store_.flash_counts();
  record_.tiers = count_tiers();
  record_.prefetch = parts_.session->prefetched() - prefetch_counted_;
  prefetch_counted_ = parts_.session->prefetched();
  if (parts_.arena != nullptr) {
    record_.pages = parts_.arena->moves() - pages_counted_;
    pages_counted_ = parts_.arena->moves();
  }
  const std::uint64_t arrived = store_.hop_counts(0).bytes;
  record_.dram_bytes = record_.compute_bytes + store_.dma_bytes(arrived - arrived_counted_);
  arrived_counted_ = arrived;
  if (thermal_) heat_up();
  if (observer_ != nullptr) observer_->on_pass(record_);
}

void DecodeSimulation::drain() {
  pass_done_ = false;   // else the admissions that are left would not start one after the other
  start_ready_tasks();  // jobs that were waiting when the last pass ended
  run_events(queue_, *this, [] { return false; });
  if (!store_.idle() || !compute_.idle()) {
    throw InvariantError("the run ended with reads or jobs that no event will finish");
  }
}

void DecodeSimulation::on(const HostDone& event) { store_.host_done(event); }

void DecodeSimulation::on(const FixedDone& /*event*/) {
  if (const auto ended = compute_.fixed_done()) finish_jobs(*ended);
}

void DecodeSimulation::on(const BusDone& event) {
  if (!bus_.finish(event)) return;
  if (event.agent == BusAgent::kCompute) {
    finish_jobs(compute_.bytes_done());
  } else {
    finish_read(0);
  }
}

void DecodeSimulation::on(const HopDone& event) { finish_read(event.hop); }

// Everything that can start now does: tasks first, so that their reads queue as demand, then lanes
// and the compute agent.
void DecodeSimulation::start_ready_tasks() {
  while (ready_first_ < ready_.size()) start_task(ready_[ready_first_++]);
  ready_.clear();
  ready_first_ = 0;
  store_.start_reads();
  compute_.start_next();
}

const DecodeSimulation::Slot* DecodeSimulation::slot_of(const Task& task) const {
  return task.slot < slots_.size() ? &slots_[task.slot] : nullptr;
}

bool DecodeSimulation::takes_no_time(const Task& task) const {
  if (task.execution >= executions_[task.hidden_layer] && task.kind != TaskKind::kHead) return true;
  switch (task.kind) {
    case TaskKind::kFetched:
    case TaskKind::kCombine:
      return true;
    case TaskKind::kFetch:
    case TaskKind::kFetchDown:
    case TaskKind::kAdmit:
      return task.slot >= slots_.size() || slots_[task.slot].kind == AccessKind::kHit;
    case TaskKind::kExpert:
    case TaskKind::kExpertDown:
      return task.slot >= slots_.size();
    default:
      return false;
  }
}

// Most tasks of a token are such; following them here spares a turn through the ready list each.
void DecodeSimulation::pass_over(std::uint32_t id) {
  for (;;) {
    const std::uint32_t first = graph_->first_successor(id);
    if (graph_->end_successor(id) != first + 1) {
      complete(id, causes_[id], Duration::zero());
      return;
    }
    const std::uint32_t next = graph_->successors()[first];
    dependency_finish_[next] = std::max(dependency_finish_[next], dependency_finish_[id]);
    causes_[next] = causes_[id];
    if (--pending_[next] > 0) return;
    if (!takes_no_time(graph_->task(next))) {
      ready_.push_back(next);
      return;
    }
    id = next;
  }
}

void DecodeSimulation::start_task(std::uint32_t id) {
  const Task& task = graph_->task(id);
  if (takes_no_time(task)) {
    pass_over(id);
    return;
  }
  switch (task.kind) {
    case TaskKind::kFetch:
    case TaskKind::kFetchDown:
      start_fetch(id, *slot_of(task));
      return;
    case TaskKind::kAdmit:
      submit_admission(id, slot_of(task)->key,
                       slot_of(task)->read_bytes[0] + slot_of(task)->read_bytes[1], false,
                       causes_[id]);
      return;
    case TaskKind::kExpert:
    case TaskKind::kExpertDown: {
      const Slot& slot = *slot_of(task);
      const ComputeCost cost = parts_.costs->expert(task.kind, slot.bytes, slot.tokens);
      submit(id, parts_.arena == nullptr ? cost : with_page_faults(task, cost));
      return;
    }
    default: {
      const ComputeCost cost = pass_->tokens.empty()
                                   ? parts_.costs->task(task, pass_->position, pass_->count)
                                   : parts_.costs->batch_task(task, pass_->tokens);
      submit(id, parts_.arena == nullptr ? cost : with_page_faults(task, cost));
      return;
    }
  }
}

void DecodeSimulation::complete(std::uint32_t id, CauseRef ref, Duration own_time) {
  const Duration finish = dependency_finish_[id] + own_time;
  const auto& successors = graph_->successors();
  for (std::uint32_t i = graph_->first_successor(id); i < graph_->end_successor(id); ++i) {
    const std::uint32_t next = successors[i];
    dependency_finish_[next] = std::max(dependency_finish_[next], finish);
    causes_[next] = ref;
    if (--pending_[next] == 0) ready_.push_back(next);
  }
  record_.dependency = finish;
}

void DecodeSimulation::finish_jobs(const ComputeAgent::Ended& ended) {
  for (std::uint32_t i = 0; i < ended.count && !pass_done_; ++i) finish_job(ended.first + i);
  if (!pass_done_) start_ready_tasks();
}

void DecodeSimulation::finish_job(std::uint32_t id) {
  const JobRecord& job = compute_.job(id);
  const CauseRef ref{CauseRef::Kind::kJob, id};
  if (job.task == kNoId) {
    if (job.path_part == PathPart::kPredictor) read_ahead(ref);
    return;
  }
  const TaskKind kind = job.span.kind;
  const std::uint32_t task = job.task;
  if (kind == TaskKind::kRouter) decide_experts(graph_->task(task));
  complete(task, ref, job.span.fixed + job.nominal);
  if (kind == TaskKind::kHead) {
    last_job_ = id;
    pass_done_ = true;
  } else if (forecast_.active() && pass_->phase == Phase::kDecode) {
    if (kind == TaskKind::kRouter && !executed_.empty()) {
      predict(ref);
    } else {
      computed(kind, task, ref);
    }
  }
}

}  // namespace moesim
