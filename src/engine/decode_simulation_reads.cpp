// How the simulation reads experts: what a fetch asks the store for, and what an arrival means.
#include "engine/decode_simulation.h"

namespace moesim {

void DecodeSimulation::finish_read(std::uint8_t hop) {
  if (const auto transfer = store_.service_done(hop)) finish_transfer(*transfer);
  start_ready_tasks();
}

void DecodeSimulation::on(const CopyDone& event) {
  if (const auto transfer = store_.copy_done(event)) finish_transfer(*transfer);
  start_ready_tasks();
}

ReadSizes DecodeSimulation::reads_of(TaskKind kind, const Slot& slot) const {
  if (slot.read_bytes[1] == 0) return parts_.costs->reads(kind, slot.read_bytes[0]);
  ReadSizes reads = parts_.costs->reads(kind, slot.read_bytes[1]);
  if (slot.read_bytes[0] == 0) return reads;
  const ReadSizes first = parts_.costs->reads(kind, slot.read_bytes[0]);
  for (std::size_t i = 0; i < first.count; ++i) reads.bytes[reads.count++] = first.bytes[i];
  return reads;
}

void DecodeSimulation::start_fetch(std::uint32_t id, const Slot& slot) {
  const std::uint32_t under_way = speculative_transfer_[index(slot.key)];
  if (slot.kind == AccessKind::kLate && under_way != kNoId) {
    store_.demand(under_way, id);
    return;
  }
  if (slot.kind == AccessKind::kLate) {  // It has arrived since the visit was decided.
    complete(id, causes_[id], Duration::zero());
    return;
  }
  const ReadSizes reads = reads_of(graph_->task(id).kind, slot);
  record_.flash_bound += store_.flash_time(reads, slot.source);
  const std::uint32_t transfer = store_.begin(slot.key, reads, false, causes_[id], slot.source);
  store_.demand(transfer, id);
}

void DecodeSimulation::finish_transfer(std::uint32_t id) {
  const Transfer& transfer = store_.transfer(id);
  const CauseRef ref{CauseRef::Kind::kRead, transfer.last_read};
  if (transfer.speculative) {
    speculative_transfer_[index(transfer.key)] = kNoId;
    speculative_bytes_ -= transfer.bytes;
    parts_.session->finish_read(transfer.key);
    if (transfer.waiting[0] == kNoId) {
      submit_admission(kNoId, transfer.key, parts_.session->expert_bytes(transfer.key), true, ref);
    }
  }
  for (const std::uint32_t task : transfer.waiting) {
    if (task == kNoId) continue;
    const Task& what = graph_->task(task);
    const ReadSizes reads =
        transfer.speculative ? ReadSizes{} : reads_of(what.kind, *slot_of(what));
    complete(task, ref, store_.unshared_time(reads, id));
  }
  store_.release(id);
}

}  // namespace moesim
