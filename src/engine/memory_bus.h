// DRAM as one capacity that the compute agent and flash DMA share max-min, each up to a cap.
//
// A flow is some work that would take `nominal` at its own cap. As long as the caps fit into the
// total both run at full speed; otherwise each progresses at (its share / its cap), and the ends
// move whenever the other starts or stops. Progress is rounded to a picosecond per change.
#pragma once

#include <array>
#include <cstdint>

#include "core/units.h"
#include "engine/event_queue.h"
#include "engine/sim_event.h"

namespace moesim {

// A part of the cores that compute.
struct CoreShare {
  std::uint64_t left = 1;
  std::uint64_t of = 1;
};

class MemoryBus {
 public:
  MemoryBus(BytesPerSecond total, EventQueue<SimEvent>& queue) : total_(total), queue_(queue) {}

  // Starts a flow of `agent` and schedules its BusDone. `on_cores`: the CPU's cores do the work.
  // REQUIRES: the agent has none under way.
  void begin(BusAgent agent, Duration nominal, BytesPerSecond cap, bool on_cores = true);
  // From now on compute flows on the cores run at this share of their caps at the most. REQUIRES:
  // 0 < left <= of.
  void slow_cores(CoreShare cores);
  // True when `event` is the end of the flow under way (and not of a plan that was changed); the
  // flow has then ended.
  bool finish(const BusDone& event);

 private:
  struct Flow {
    bool active = false;
    Duration left{};          // at full speed
    std::uint64_t cap = 0;    // bytes per second
    std::uint64_t limit = 0;  // the same with the cores that there are now
    std::uint64_t rate = 0;   // what it gets, <= limit
    TimePoint since{};        // `left` was true then
    std::uint32_t version = 0;
    bool on_cores = false;
  };

  void share();
  [[nodiscard]] std::uint64_t limited(std::uint64_t cap) const;
  void set_rate(BusAgent agent, std::uint64_t rate);

  BytesPerSecond total_;
  EventQueue<SimEvent>& queue_;
  std::array<Flow, 2> flows_;
  CoreShare cores_;
};

}  // namespace moesim
