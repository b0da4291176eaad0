// What the simulation reads ahead of demand: when it asks the predictor, what that costs, and what
// it then begins to read.
#include "engine/decode_simulation.h"

namespace moesim {

void DecodeSimulation::begin_forecast(const Pass& pass) {
  // Several sequences share what a predictor has seen, so it goes on when one of them ends.
  if (pass.starts_sequence && parts_.schedule->tokens_in_pass == 1) forecast_.begin_sequence();
  forecast_.set_rows(pass_rows_);
  if (pass.phase != Phase::kDecode) return;
  if (forecast_.at_token_start(pass.first, parts_.session->cache().events())) predict({});
}

// The predictor runs before the experts of the visit, so that its reads begin early; they begin
// when it has ended, and demand reads are queued before them.
void DecodeSimulation::predict(CauseRef cause) {
  forecast_.ask(1);  // judged, whether anything may be read or not
  const std::uint64_t bytes = forecast_.predictor_bytes();
  if (bytes > 0) {
    const ComputeCost cost = parts_.costs->predictor(bytes);
    record_.compute_bytes += cost.bytes;
    JobRecord& job = compute_.submit();
    job.path_part = PathPart::kPredictor;
    job.span.kind = TaskKind::kRouter;
    job.span.part = TimePart::kPredictor;
    const bool at_start = slots_.empty();
    job.span.hidden_layer = static_cast<std::uint16_t>(
        at_start ? 0 : parts_.model->moe_layers[index(layer_of(slots_[0].key, shape_.experts))]);
    job.span.fixed = cost.fixed;
    if (cost.agent != agent_) change_agent(job, cost);
    job.on_cores = cost.agent == 0;
    job.nominal = cost.nominal;
    job.rate = cost.rate;
    job.cause = cause;
  }
  while (ready_first_ < ready_.size()) start_task(ready_[ready_first_++]);
  if (bytes == 0) read_ahead(cause);
}

// Reads what the predictor names, nearest visit first, until no more may be outstanding.
void DecodeSimulation::read_ahead(CauseRef cause) {
  const std::uint32_t distance = forecast_.distance();
  for (std::uint32_t ahead = 1; ahead <= distance; ++ahead) {
    for (const ExpertKey key : forecast_.ask(ahead)) {
      if (!begin_speculative(key, cause)) return;
    }
  }
}

// False where the cap on outstanding bytes is reached.
bool DecodeSimulation::begin_speculative(ExpertKey key, CauseRef cause) {
  const std::uint64_t bytes = parts_.session->expert_bytes(key);
  if (speculative_bytes_ + bytes > parts_.prefetcher->max_outstanding_bytes()) return false;
  // An earlier read of it may be under way though the cache has let it go since.
  const bool under_way = speculative_transfer_[index(key)] != kNoId;
  if (under_way || !parts_.session->begin_read(key)) return true;
  if (parts_.arena != nullptr) parts_.arena->release(parts_.session->evicted_for_read());
  speculative_bytes_ += bytes;
  const ReadSizes reads = parts_.costs->all_reads(bytes);
  const std::uint8_t source = find_ahead(key);
  record_.flash_bound += store_.flash_time(reads, source);
  speculative_transfer_[index(key)] = store_.begin(key, reads, true, cause, source);
  return true;
}

// An expert has been computed: an eviction policy may give its slot up at once.
void DecodeSimulation::computed(TaskKind kind, std::uint32_t task, CauseRef cause) {
  const bool halves = parts_.execution.overlap == Overlap::kProjection;
  if (kind != (halves ? TaskKind::kExpertDown : TaskKind::kExpert)) return;
  if (parts_.session->compute_done(slot_of(graph_->task(task))->key)) read_ahead(cause);
}

}  // namespace moesim
