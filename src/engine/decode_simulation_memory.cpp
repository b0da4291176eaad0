// What the simulation pays for pages where memory is short.
#include "engine/decode_simulation.h"

namespace moesim {

// Attention carries what its layer pays for dense weights, an expert what it was stolen. One that
// has just been read paid with its admission.
ComputeCost DecodeSimulation::with_page_faults(const Task& task, ComputeCost cost) {
  if (task.kind == TaskKind::kAttention) {
    cost.fixed += parts_.arena->layer_time();
  } else if (task.kind == TaskKind::kExpert) {
    const Slot& slot = *slot_of(task);
    if (slot.kind == AccessKind::kHit) cost.fixed += parts_.arena->use(slot.key, slot.low);
  }
  return cost;
}

// The agent takes its jobs in order, so the admission comes after this.
void DecodeSimulation::submit_page_work(std::uint32_t task, ExpertKey key, CauseRef cause) {
  const bool low = task != kNoId && slot_of(graph_->task(task))->low;
  const Duration time = parts_.arena->use(key, low);
  if (time == Duration::zero()) return;
  JobRecord& job = submit_admit_job(key, time, cause);
  job.path_part = PathPart::kOverhead;
  job.span.part = TimePart::kOverhead;
}

}  // namespace moesim
