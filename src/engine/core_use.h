// Cores that read lanes take from computing.
//
// A lane whose read is in a phase that a core carries out (the host delay, a copy) occupies one.
// Where threads and lanes together are more than the cores, the threads then share what is left:
// compute work runs at (cores - lanes at work) / threads of its rate, and at no less than one
// core's. A machine where that cannot happen has no CoreUse. Left out: cores of unequal speed, and
// fixed costs (layer overhead, admission), which are not stretched.
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
  // Cores that the threads have, of as many as they can use.
  [[nodiscard]] std::size_t left() const {
    const std::size_t idle = cores_ > busy_ ? cores_ - busy_ : 1;
    return std::min(idle, threads_);
  }

 private:
  void tell() {
    const std::size_t now = left();
    if (now == told_) return;
    told_ = now;
    bus_.slow_cores({now, threads_});
  }

  std::size_t cores_;
  std::size_t threads_;
  MemoryBus& bus_;
  std::size_t busy_ = 0;
  std::size_t told_ = threads_;
};

}  // namespace moesim
