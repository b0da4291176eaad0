// The events of a simulated run.
#pragma once

#include <cstdint>
#include <variant>

namespace moesim {

enum class BusAgent : std::uint8_t { kCompute, kFlash };

// The host part of the read in this lane of this hop is over.
struct HostDone {
  std::uint32_t lane;
  std::uint8_t hop = 0;
};
// The read in service on a hop that does not touch the memory bus is over.
struct HopDone {
  std::uint8_t hop;
};
// The fixed part of the job under way on the compute agent is over.
struct FixedDone {};
// The bytes of an agent's work have moved, unless the plan has changed since (older version).
struct BusDone {
  BusAgent agent;
  std::uint32_t version;
};
// The read in this lane of this hop has been copied out of its bounce buffer.
struct CopyDone {
  std::uint32_t lane;
  std::uint8_t hop = 0;
};

using SimEvent = std::variant<HostDone, FixedDone, BusDone, HopDone, CopyDone>;

}  // namespace moesim
