#include "engine/memory_arena.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "hardware/page_faults.h"

namespace moesim {
namespace {

// Calls `visit` with each sequence of a pass and its number of tokens after the pass.
template <class Visit>
void for_each_context(const Pass& pass, Visit visit) {
  if (pass.tokens.empty()) visit(pass.sequence, pass.position + pass.count);
  for (const PassToken& token : pass.tokens) visit(token.sequence, token.position + 1);
}

std::vector<std::uint64_t> copy_of(std::span<const std::uint64_t> bytes) {
  return {bytes.begin(), bytes.end()};
}

std::uint64_t hot_dense(const ArenaParts& parts) {
  const bool pinned = parts.dense_pages == DensePages::kPinned;
  return parts.demand.dense - (pinned ? 0 : parts.demand.input_table);
}

std::size_t product_cores(const ArenaParts& parts) {
  const std::size_t cores = parts.device->cpu.core_count();
  return cores == 0 ? parts.execution.threads : std::min(parts.execution.threads, cores);
}

// What a stolen page still takes: clean pages of a memory map are dropped.
double stolen_share(const ArenaParts& parts) {
  return parts.execution.read_path == ReadPath::kMmap ? 0.0 : parts.device->memory.zram_ratio;
}

}  // namespace

std::vector<std::uint64_t> kv_bytes_by_pass(const TokenSchedule& schedule, const TaskCosts& costs) {
  std::map<std::int32_t, std::size_t> last_pass;
  for (std::size_t i = 0; i < schedule.passes.size(); ++i) {
    for_each_context(schedule.passes[i],
                     [&](std::int32_t sequence, std::uint32_t) { last_pass[sequence] = i; });
  }
  std::map<std::int32_t, std::uint64_t> held;
  std::uint64_t sum = 0;
  std::vector<std::uint64_t> by_pass;
  by_pass.reserve(schedule.passes.size());
  for (std::size_t i = 0; i < schedule.passes.size(); ++i) {
    for_each_context(schedule.passes[i], [&](std::int32_t sequence, std::uint32_t tokens) {
      sum -= held[sequence];
      held[sequence] = costs.kv_bytes(tokens);
      sum += held[sequence];
    });
    by_pass.push_back(sum);
    for_each_context(schedule.passes[i], [&](std::int32_t sequence, std::uint32_t) {
      if (last_pass[sequence] != i) return;
      sum -= held[sequence];
      held.erase(sequence);
    });
  }
  return by_pass;
}

MemoryArena::MemoryArena(ArenaParts parts)
    : parts_(std::move(parts)),
      hot_dense_(hot_dense(parts_)),
      product_cores_(product_cores(parts_)),
      pages_(copy_of(parts_.session->item_bytes()), stolen_share(parts_)) {}

void MemoryArena::begin_pass(const Pass& pass, std::size_t number) {
  const std::uint64_t kv = parts_.kv_by_pass[number];
  const std::uint64_t first = hot_dense_ + parts_.demand.buffers + kv;
  const bool fits = first < parts_.demand.budget;
  const PageMoves shrunk = pages_.set_room(fits ? parts_.demand.budget - first : 0);
  moves_ += shrunk;
  Duration time = parts_.execution.read_path == ReadPath::kMmap ? Duration::zero()  // clean pages
                                                                : zram_time(shrunk, 1);
  if (!started_ || (pass.starts_sequence && parts_.reset == CacheReset::kSequence)) restart();
  time += touch_dense(kv);
  layer_time_ = time / static_cast<std::int64_t>(parts_.hidden_layers);
}

// The initial contents of the cache, the best last; like their loading this is counted nowhere.
void MemoryArena::restart() {
  started_ = true;
  pages_.clear();
  const ExpertCache& cache = parts_.session->cache();
  const std::vector<ExpertKey>& initial = cache.options().initial;
  for (auto key = initial.rbegin(); key != initial.rend(); ++key) {
    if (cache.residency(*key) == Residency::kResident) pages_.touch(*key);
  }
}

// The part of dense weights and key-value cache that does not fit comes and goes with every token.
// Pinned weights stay; clean pages of a file are dropped, before anything else, and read again.
Duration MemoryArena::touch_dense(std::uint64_t kv) {
  const MemoryDemand& demand = parts_.demand;
  const bool pinned = parts_.dense_pages == DensePages::kPinned;
  const std::uint64_t wanted = hot_dense_ + demand.buffers + kv;
  const std::uint64_t beyond = wanted > demand.budget ? wanted - demand.budget : 0;
  const std::uint64_t moved = std::min(beyond, kv + (pinned ? 0 : hot_dense_));
  const std::uint64_t from_file =
      parts_.dense_pages == DensePages::kFile ? std::min(moved, hot_dense_) : 0;
  moves_ += {moved, moved, from_file};
  const std::uint64_t from_zram = moved - from_file;
  return fault_time(from_file) + zram_time({from_zram, from_zram}, product_cores_);
}

Duration MemoryArena::use(ExpertKey key, bool low) {
  Duration time{};
  const CacheItems items = parts_.session->items_of(key, low);
  for (std::size_t i = 0; i < items.count; ++i) {
    if (parts_.session->cache().residency(items.keys[i]) != Residency::kResident) continue;
    const bool mapped = parts_.execution.read_path == ReadPath::kMmap;
    PageMoves moves = pages_.touch(items.keys[i]);
    if (mapped) moves.from_flash = moves.refaulted;
    moves_ += moves;
    // A memory map has clean pages of a file: dropping them costs nothing.
    time += mapped ? fault_time(moves.refaulted)
                   : zram_time(moves, moves.refaulted > 0 ? product_cores_ : 1);
  }
  return time;
}

void MemoryArena::release(std::span<const ExpertKey> items) {
  for (const ExpertKey item : items) pages_.release(item);
}

Duration MemoryArena::zram_time(const PageMoves& moves, std::size_t cores) const {
  const MemorySpec& memory = parts_.device->memory;
  const double speed = clock_ * static_cast<double>(cores);
  const auto direct = static_cast<std::uint64_t>(
      std::llround(static_cast<double>(moves.stolen) * memory.direct_reclaim_share));
  return transfer_time(moves.refaulted, to_rate(memory.zram_gbps * speed)) +
         transfer_time(direct, to_rate(memory.compress_gbps * speed));
}

Duration MemoryArena::fault_time(std::uint64_t bytes) const {
  if (bytes == 0) return Duration::zero();
  return page_fault_time(*parts_.device->flash, bytes, parts_.execution.threads, flash_derate_);
}

}  // namespace moesim
