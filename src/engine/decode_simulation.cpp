#include "engine/decode_simulation.h"

#include <algorithm>

#include "core/errors.h"
#include "engine/critical_path.h"

namespace moesim {
namespace {

PathPart path_part_of(TaskKind kind) {
  switch (kind) {
    case TaskKind::kAttention:
      return PathPart::kAttention;
    case TaskKind::kDenseFfn:
      return PathPart::kDenseFfn;
    case TaskKind::kRouter:
      return PathPart::kRouter;
    case TaskKind::kShared:
      return PathPart::kSharedExperts;
    case TaskKind::kHead:
      return PathPart::kHead;
    case TaskKind::kAdmit:
      return PathPart::kAdmission;
    default:
      return PathPart::kExperts;
  }
}

TokenGraphOptions graph_options(const SimulationParts& parts, std::size_t slots) {
  return {slots, parts.execution.overlap, parts.session->routing().max_executions()};
}

// Jobs and reads of one pass, and what speculation may have under way beside it: every expert once,
// with three reads and an admission. Few without speculation, so that they stay in cache.
std::size_t record_capacity(const SimulationParts& parts) {
  const RoutingShape shape = parts.session->shape();
  const bool has_prefill = parts.schedule->prefill_tokens > 0;
  const std::size_t slots = has_prefill ? shape.experts : parts.session->routing().max_experts();
  const std::size_t blocks = shape.layers * parts.session->routing().max_executions();
  const std::size_t mixers = parts.model->num_hidden_layers + blocks - shape.layers;
  const std::size_t pass = blocks * (3 * slots + 4) + 2 * mixers + 64;
  if (!parts.prefetcher->active()) return pass;
  return pass + 4 * shape.layers * shape.experts + 2 * parts.execution.lanes;
}

FlashPathOptions flash_options(const SimulationParts& parts) {
  const double sigma = parts.execution.service_noise ? parts.device->flash.noise_sigma : 0.0;
  return {parts.execution.lanes, record_capacity(parts), parts.session->shape().experts, sigma,
          parts.seed};
}

}  // namespace

DecodeSimulation::DecodeSimulation(const SimulationParts& parts)
    : parts_(parts),
      shape_(parts.session->shape()),
      token_graph_(build_token_graph(*parts.model,
                                     graph_options(parts, parts.session->routing().max_experts()))),
      bus_(to_rate(parts.device->dram.total_gbps), queue_),
      compute_(queue_, bus_, record_capacity(parts)),
      flash_(parts.device->flash, parts.device->dram.dma_factor, flash_options(parts), queue_,
             bus_),
      speculative_transfer_(shape_.layers * shape_.experts, kNoId) {
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
  dependency_finish_.resize(tasks);
  ready_.reserve(tasks);
  slots_.reserve(shape_.experts);
  wanted_.reserve(shape_.layers * shape_.experts);
  executed_.reserve(shape_.experts);
}

void DecodeSimulation::run(std::size_t first, std::size_t end, RunObserver* observer, bool spans) {
  observer_ = observer;
  compute_.set_observer(spans ? observer : nullptr);
  flash_.set_observer(spans ? observer : nullptr);
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
  plan_layers(pass);
  const TimePoint start = queue_.now();
  causes_[0] = {};
  ready_.push_back(0);
  start_ready_tasks();
  run_events(queue_, *this, [this] { return pass_done_; });
  if (!pass_done_) throw InvariantError("a pass came to a halt before its end");
  report(pass, start);
}

// Hidden layers without experts are in no plan: they run once.
void DecodeSimulation::plan_layers(const Pass& pass) {
  for (std::size_t layer = 0; layer < shape_.layers; ++layer) {
    executions_[parts_.model->moe_layers[layer]] =
        parts_.session->executions(pass, static_cast<LayerId>(layer));
  }
}

void DecodeSimulation::report(const Pass& pass, TimePoint start) {
  record_.pass = &pass;
  record_.start = start;
  record_.end = queue_.now();
  record_.parts = compute_.parts();
  record_.path = critical_path(compute_, flash_, last_job_, start);
  const CacheCounts& counts = parts_.session->accounting().counts();
  record_.cache = counts - counted_;
  counted_ = counts;
  record_.flash = flash_.counts() - flash_counted_;
  flash_counted_ = flash_.counts();
  record_.prefetch = parts_.session->prefetched() - prefetch_counted_;
  prefetch_counted_ = parts_.session->prefetched();
  record_.dram_bytes = record_.compute_bytes + flash_.dma_bytes(record_.flash.bytes);
  if (observer_ != nullptr) observer_->on_pass(record_);
}

void DecodeSimulation::drain() {
  start_ready_tasks();  // jobs that were waiting when the last pass ended
  run_events(queue_, *this, [] { return false; });
  if (!flash_.idle() || !compute_.idle()) {
    throw InvariantError("the run ended with reads or jobs that no event will finish");
  }
}

void DecodeSimulation::on(const HostDone& event) { flash_.host_done(event.lane); }

void DecodeSimulation::on(const FixedDone& /*event*/) {
  if (const auto ended = compute_.fixed_done()) finish_jobs(*ended);
}

void DecodeSimulation::on(const BusDone& event) {
  if (!bus_.finish(event)) return;
  if (event.agent == BusAgent::kCompute) {
    finish_jobs(compute_.bytes_done());
  } else {
    if (const auto transfer = flash_.service_done()) finish_transfer(*transfer);
    start_ready_tasks();
  }
}

// Everything that can start now does: tasks first, so that their reads queue as demand, then lanes
// and the compute agent.
void DecodeSimulation::start_ready_tasks() {
  while (ready_first_ < ready_.size()) start_task(ready_[ready_first_++]);
  ready_.clear();
  ready_first_ = 0;
  flash_.start_reads();
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
      submit_admission(id, slot_of(task)->key, false, causes_[id]);
      return;
    case TaskKind::kExpert:
    case TaskKind::kExpertDown: {
      const Slot& slot = *slot_of(task);
      submit(id, parts_.costs->expert(task.kind, slot.bytes, slot.tokens));
      return;
    }
    default:
      submit(id, parts_.costs->task(task, pass_->position, pass_->count));
      return;
  }
}

void DecodeSimulation::submit(std::uint32_t task, const ComputeCost& cost) {
  record_.compute_bytes += cost.bytes;
  if (cost.fixed + cost.nominal == Duration::zero()) {
    const TaskKind kind = graph_->task(task).kind;
    if (kind == TaskKind::kRouter || kind == TaskKind::kHead) {
      throw InvariantError("a router or a head that takes no time");
    }
    complete(task, causes_[task], Duration::zero());
    return;
  }
  const Task& what = graph_->task(task);
  JobRecord& job = compute_.submit();
  job.task = task;
  job.path_part = path_part_of(what.kind);
  job.span.kind = what.kind;
  job.span.part = TimePart::kCompute;
  job.span.hidden_layer = what.hidden_layer;
  job.span.fixed = cost.fixed;
  job.nominal = cost.nominal;
  job.rate = cost.rate;
  job.cause = causes_[task];
  if (what.kind == TaskKind::kExpert || what.kind == TaskKind::kExpertDown) {
    // With halves apart, the end of each matters: its second half queues from then on.
    job.merges = parts_.execution.overlap != Overlap::kProjection;
    job.span.has_expert = true;
    job.span.expert =
        static_cast<std::uint32_t>(index(expert_of(slot_of(what)->key, shape_.experts)));
  }
}

void DecodeSimulation::submit_admission(std::uint32_t task, ExpertKey key, bool speculative,
                                        CauseRef cause) {
  const bool keeps = parts_.session->cache().capacity() > 0;
  const Duration time =
      keeps ? parts_.costs->admission(parts_.session->expert_bytes(key)) : Duration::zero();
  if (time == Duration::zero()) {
    if (task != kNoId) complete(task, cause, Duration::zero());
    return;
  }
  JobRecord& job = compute_.submit();
  job.task = task;
  job.path_part = PathPart::kAdmission;
  job.span.kind = TaskKind::kAdmit;
  job.span.part = TimePart::kAdmission;
  job.span.speculative = speculative;
  job.span.hidden_layer =
      static_cast<std::uint16_t>(parts_.model->moe_layers[index(layer_of(key, shape_.experts))]);
  job.span.has_expert = true;
  job.span.expert = static_cast<std::uint32_t>(index(expert_of(key, shape_.experts)));
  job.span.fixed = time;
  job.cause = cause;
}

void DecodeSimulation::start_fetch(std::uint32_t id, const Slot& slot) {
  const std::uint32_t under_way = speculative_transfer_[index(slot.key)];
  if (slot.kind == AccessKind::kLate && under_way != kNoId) {
    flash_.demand(under_way, id);
    return;
  }
  if (slot.kind == AccessKind::kLate) {  // It has arrived since the visit was decided.
    complete(id, causes_[id], Duration::zero());
    return;
  }
  const ReadSizes reads = parts_.costs->reads(graph_->task(id).kind, slot.bytes);
  record_.flash_bound += flash_.device_time(reads);
  const std::uint32_t transfer = flash_.begin(slot.key, reads, false, causes_[id]);
  flash_.demand(transfer, id);
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
  if (job.task == kNoId) return;
  const CauseRef ref{CauseRef::Kind::kJob, id};
  const TaskKind kind = job.span.kind;
  const auto layer = static_cast<LayerId>(graph_->task(job.task).layer);
  if (kind == TaskKind::kRouter) decide_experts(graph_->task(job.task));
  complete(job.task, ref, job.span.fixed + job.nominal);
  if (kind == TaskKind::kHead) {
    last_job_ = id;
    pass_done_ = true;
  } else if (kind == TaskKind::kRouter && parts_.prefetcher->active() &&
             pass_->phase == Phase::kDecode) {
    while (ready_first_ < ready_.size()) start_task(ready_[ready_first_++]);
    predict(layer, ref);
  }
}

void DecodeSimulation::finish_transfer(std::uint32_t id) {
  const Transfer& transfer = flash_.transfer(id);
  const CauseRef ref{CauseRef::Kind::kRead, transfer.last_read};
  if (transfer.speculative) {
    speculative_transfer_[index(transfer.key)] = kNoId;
    speculative_bytes_ -= transfer.bytes;
    parts_.session->finish_read(transfer.key);
    if (transfer.waiting[0] == kNoId) submit_admission(kNoId, transfer.key, true, ref);
  }
  for (const std::uint32_t task : transfer.waiting) {
    if (task == kNoId) continue;
    const ReadSizes reads = transfer.speculative
                                ? ReadSizes{}
                                : parts_.costs->reads(graph_->task(task).kind,
                                                      parts_.session->expert_bytes(transfer.key));
    complete(task, ref, flash_.unshared_time(reads));
  }
  flash_.release(id);
}

void DecodeSimulation::decide_experts(const Task& router) {
  ExpertSession& session = *parts_.session;
  const auto layer = static_cast<LayerId>(router.layer);
  const bool is_union = pass_->phase == Phase::kPrefill;
  const VisitOutcome visit = is_union               ? session.prefill(*pass_, layer)
                             : router.execution > 0 ? session.repeat(layer)
                                                    : session.decode(*pass_, layer);
  slots_.clear();
  executed_.clear();
  for (std::size_t i = 0; i < visit.accesses.size(); ++i) {
    const Access& access = visit.accesses[i];
    const ExpertKey key = expert_key(layer, access.expert, shape_.experts);
    const std::uint32_t tokens = is_union ? session.union_counts()[i] : 1;
    slots_.push_back({key, access.kind, session.expert_bytes(key), tokens});
    executed_.push_back(access.expert);
  }
  record_.experts += visit.accesses.size();
  last_event_ = visit.event;
  if (observer_ != nullptr && visit.visited)
    observer_->on_visit(*pass_, layer, visit, queue_.now());
}

void DecodeSimulation::predict(LayerId layer, CauseRef cause) {
  if (executed_.empty()) return;
  Prefetcher& prefetcher = *parts_.prefetcher;
  if (prefetcher.predictor_bytes() > 0) {
    const ComputeCost cost = parts_.costs->predictor(prefetcher.predictor_bytes());
    record_.compute_bytes += cost.bytes;
    JobRecord& job = compute_.submit();
    job.path_part = PathPart::kPredictor;
    job.span.kind = TaskKind::kRouter;
    job.span.part = TimePart::kPredictor;
    job.nominal = cost.nominal;
    job.rate = cost.rate;
    job.cause = cause;
  }
  wanted_.clear();
  prefetcher.predict({pass_->first, last_event_, layer, executed_}, wanted_);
  for (const ExpertKey key : wanted_) {
    const std::uint64_t bytes = parts_.session->expert_bytes(key);
    if (speculative_bytes_ + bytes > prefetcher.max_outstanding_bytes()) break;
    // An earlier read of it may be under way though the cache has let it go since.
    const bool under_way = speculative_transfer_[index(key)] != kNoId;
    if (under_way || !parts_.session->begin_read(key)) continue;
    speculative_bytes_ += bytes;
    const ReadSizes reads = parts_.costs->all_reads(bytes);
    record_.flash_bound += flash_.device_time(reads);
    speculative_transfer_[index(key)] = flash_.begin(key, reads, true, cause);
  }
}

}  // namespace moesim
