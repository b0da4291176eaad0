// What a layer visit asks for, and the jobs of the compute agent that follow from it.
#include "core/errors.h"
#include "engine/decode_simulation.h"

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

}  // namespace

void DecodeSimulation::decide_experts(const Task& router) {
  ExpertSession& session = *parts_.session;
  const auto layer = static_cast<LayerId>(router.layer);
  const bool is_prefill = pass_->phase == Phase::kPrefill;
  VisitOutcome visit = is_prefill             ? session.prefill(*pass_, layer)
                       : router.execution > 0 ? session.repeat(layer)
                                              : session.decode(*pass_, layer);
  slots_.clear();
  executed_.clear();
  for (std::size_t i = 0; i < visit.accesses.size(); ++i) {
    const Access& access = visit.accesses[i];
    const ExpertKey key = expert_key(layer, access.expert, shape_.experts);
    const std::uint32_t tokens = visit.served.empty() ? 1 : visit.served[i];
    const std::uint64_t bytes = session.expert_bytes(key);
    slots_.push_back({key, access.kind, bytes, tokens, {bytes, 0}});
    if (!visit.runs.empty()) {
      slots_.back().bytes = visit.runs[i].run_bytes;
      slots_.back().read_bytes = visit.runs[i].read_bytes;
      slots_.back().low = visit.runs[i].low;
    }
    executed_.push_back(access.expert);
  }
  if (parts_.tiers != nullptr) find_misses(layer, visit.is_union);
  if (parts_.arena != nullptr) parts_.arena->release(visit.evicted);
  record_.experts += visit.accesses.size();
  if (forecast_.active() && !is_prefill && visit.visited && router.execution == 0) {
    visit.predicted = forecast_.named_for(visit.event);
    forecast_.after_visit(pass_->first, layer, visit.event, executed_);
  }
  if (observer_ != nullptr && visit.visited)
    observer_->on_visit(*pass_, layer, visit, queue_.now());
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
  if (cost.agent != agent_) change_agent(job, cost);
  job.on_cores = cost.agent == 0;
  job.nominal = cost.nominal;
  job.rate = cost.rate;
  job.cause = causes_[task];
  if (what.kind == TaskKind::kExpert || what.kind == TaskKind::kExpertDown) {
    // With halves apart, the end of each matters: its second half queues from then on.
    job.merges =
        parts_.execution.overlap != Overlap::kProjection && job.span.fixed == Duration::zero();
    record_.expert_bytes += cost.bytes;
    job.span.has_expert = true;
    job.span.expert =
        static_cast<std::uint32_t>(index(expert_of(slot_of(what)->key, shape_.experts)));
  }
}

void DecodeSimulation::submit_admission(std::uint32_t task, ExpertKey key, std::uint64_t bytes,
                                        bool speculative, CauseRef cause) {
  if (parts_.arena != nullptr) submit_page_work(task, key, cause);
  const bool keeps = parts_.session->cache().capacity() > 0;
  const Duration time = keeps ? parts_.costs->admission(bytes) : Duration::zero();
  if (time == Duration::zero()) {
    if (task != kNoId) complete(task, cause, Duration::zero());
    return;
  }
  JobRecord& job = submit_admit_job(key, time, cause);
  job.task = task;
  job.path_part = PathPart::kAdmission;
  job.span.part = TimePart::kAdmission;
  job.span.speculative = speculative;
}

JobRecord& DecodeSimulation::submit_admit_job(ExpertKey key, Duration time, CauseRef cause) {
  JobRecord& job = compute_.submit();
  job.span.kind = TaskKind::kAdmit;
  job.span.hidden_layer =
      static_cast<std::uint16_t>(parts_.model->moe_layers[index(layer_of(key, shape_.experts))]);
  job.span.has_expert = true;
  job.span.expert = static_cast<std::uint32_t>(index(expert_of(key, shape_.experts)));
  job.span.fixed = time;
  job.cause = cause;
  return job;
}

}  // namespace moesim
