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

class MemoryBus {
 public:
  MemoryBus(BytesPerSecond total, EventQueue<SimEvent>& queue) : total_(total), queue_(queue) {}

  // Starts a flow of `agent` and schedules its BusDone. REQUIRES: the agent has none under way.
  void begin(BusAgent agent, Duration nominal, BytesPerSecond cap);
  // True when `event` is the end of the flow under way (and not of a plan that was changed); the
  // flow has then ended.
  bool finish(const BusDone& event);

 private:
  struct Flow {
    bool active = false;
    Duration left{};         // at full speed
    std::uint64_t cap = 0;   // bytes per second
    std::uint64_t rate = 0;  // what it gets, <= cap
    TimePoint since{};       // `left` was true then
    std::uint32_t version = 0;
  };

  void share();
  void set_rate(BusAgent agent, std::uint64_t rate);

  BytesPerSecond total_;
  EventQueue<SimEvent>& queue_;
  std::array<Flow, 2> flows_;
};

}  // namespace moesim
