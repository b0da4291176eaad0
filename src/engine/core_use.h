// Cores that read lanes take from computing.
//
// A lane whose read is in a phase that a core carries out (the host delay, a copy) occupies one.
// Where threads and lanes together are more than the cores, the scheduler gives all of them equal
// shares: compute work runs at cores / (threads + lanes at work) of its rate. Threads that wait for
// a read keep their cores busy, as those of llama.cpp do, so that with overlap the lanes in turn
// have the same share as if all were at work; without overlap nobody computes while they read. A
// machine where that cannot happen has no CoreUse. Left out: cores of unequal speed, and fixed
// costs (layer overhead, admission), which are not stretched.
#pragma once

#include <algorithm>
#include <cstddef>

#include "engine/memory_bus.h"

namespace moesim {

class CoreUse {
 public:
  // `bus` is told of every change. REQUIRES: cores and threads > 0.
  CoreUse(std::size_t cores, std::size_t threads, MemoryBus& bus)
      : cores_(cores), threads_(std::min(threads, cores)), bus_(bus) {}

  // True where so many threads and lanes can be more than the cores; `cores` 0: not stated.
  static bool is_needed(std::size_t cores, std::size_t threads, std::size_t lanes) {
    return cores > 0 && threads + lanes > cores;
  }

  // A lane begins or ends a phase that a core carries out.
  void begin() {
    ++busy_;
    tell();
  }
  void end() {
    --busy_;
    tell();
  }

  [[nodiscard]] std::size_t busy_lanes() const { return busy_; }
  // Of its rate, what compute work has.
  [[nodiscard]] CoreShare share() const { return {cores_, std::max(cores_, threads_ + busy_)}; }
  // Of a core, what a lane has where threads compute or wait while it reads.
  static double lane_share(std::size_t cores, std::size_t threads, std::size_t lanes) {
    const std::size_t wanted = std::min(threads, cores) + lanes;
    return static_cast<double>(cores) / static_cast<double>(std::max(cores, wanted));
  }

 private:
  void tell() {
    const CoreShare now = share();
    if (now.of == told_) return;
    told_ = now.of;
    bus_.slow_cores(now);
  }

  std::size_t cores_;
  std::size_t threads_;
  MemoryBus& bus_;
  std::size_t busy_ = 0;
  std::size_t told_ = cores_;  // what the share was last out of
};

}  // namespace moesim
