// One app budget over dense weights, key-value cache, buffers and the expert cache, and what it
// costs to exceed it.
//
// Dense weights and the key-value cache are touched by every token, so the kernel keeps them as
// long as they fit, and expert pages have the room that is left (second touch: hardware reference,
// 1.5). Not so the input table where it is apart from the head: a token reads one row of it, so its
// pages go before all others and are not missed. A hit whose pages were stolen faults them back,
// from zram or, through a memory map, from flash; what has to be stolen meanwhile is compressed,
// and the share of it that direct reclaim does is billed to the thread that wants the pages. Pages
// come back within a product, so all threads of it work on them; new pages are committed by one.
// What is compressed goes on taking a share of the room (zram_ratio), so more is stolen than is
// over. No constant is fitted: how much moves follows from the order in which experts are touched.
//
// Left out: the DRAM traffic and the energy of zram; that pages which come back from a file compete
// with reads of experts; what the input table takes when it is compressed; the end of the app.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/expert_session.h"
#include "engine/memory_config.h"
#include "engine/page_reclaim.h"
#include "engine/task_costs.h"
#include "engine/token_schedule.h"
#include "hardware/device.h"

namespace moesim {

// Bytes that a run wants to hold against what it may.
struct MemoryDemand {
  std::uint64_t budget = 0;
  std::uint64_t dense = 0;  // the input table included
  std::uint64_t buffers = 0;
  std::uint64_t kv_peak = 0;
  std::uint64_t expert_cache = 0;  // its capacity, reads in flight included
  std::uint64_t input_table = 0;   // of `dense`, where it is apart from the head; else 0

  [[nodiscard]] std::uint64_t over_budget() const {
    const std::uint64_t wanted = dense + buffers + kv_peak + expert_cache;
    return wanted > budget ? wanted - budget : 0;
  }
};

// The key-value caches of the sequences under way, after each pass of the schedule. A sequence is
// under way from its first pass to its last.
std::vector<std::uint64_t> kv_bytes_by_pass(const TokenSchedule& schedule, const TaskCosts& costs);

struct ArenaParts {
  const ExpertSession* session = nullptr;
  const Device* device = nullptr;  // REQUIRES: memory.zram_gbps; with DensePages::kFile or
                                   // ReadPath::kMmap also flash with mmap_fault_us
  MemoryDemand demand;
  std::vector<std::uint64_t> kv_by_pass;  // kv_bytes_by_pass()
  DensePages dense_pages = DensePages::kAnonymous;
  ExecutionOptions execution;
  std::size_t hidden_layers = 1;
  CacheReset reset = CacheReset::kNever;
};

class MemoryArena {
 public:
  explicit MemoryArena(ArenaParts parts);

  // The session has begun this pass, which is number `number` of the schedule.
  void begin_pass(const Pass& pass, std::size_t number);
  // What each hidden layer of the pass pays for dense weights that do not fit, and for the pages
  // that a longer key-value cache takes.
  [[nodiscard]] Duration layer_time() const { return layer_time_; }
  // An expert is admitted or computed; returns the time that its pages cost the compute agent.
  // Nothing where the cache does not hold it. `low`: as ExpertSession::items_of().
  Duration use(ExpertKey key, bool low);
  // The cache has let these items go.
  void release(std::span<const ExpertKey> items);

  // The clock of the cores over the one at which the device file holds: zram and reclaim follow it,
  // page faults do not. `derate`: the share of its rate that flash keeps. Both hold from now on.
  // REQUIRES: > 0.
  void set_clock(double relative) { clock_ = relative; }
  void set_flash_derate(double derate) { flash_derate_ = derate; }

  // All that has moved so far, dense weights included.
  [[nodiscard]] const PageMoves& moves() const { return moves_; }

 private:
  void restart();
  Duration touch_dense(std::uint64_t kv);
  // On so many cores.
  [[nodiscard]] Duration zram_time(const PageMoves& moves, std::size_t cores) const;
  [[nodiscard]] Duration fault_time(std::uint64_t bytes) const;

  ArenaParts parts_;
  std::uint64_t hot_dense_;    // bytes of dense weights that every token touches or that are pinned
  std::size_t product_cores_;  // that the threads of a product run on
  double clock_ = 1;
  double flash_derate_ = 1;
  PageReclaim pages_;
  PageMoves moves_;
  Duration layer_time_{};
  bool started_ = false;
};

}  // namespace moesim
