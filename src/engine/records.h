// What is kept of recent jobs and reads, so that a pass can be walked back along its causes.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>
#include <vector>

#include "core/ids.h"
#include "core/units.h"
#include "engine/run_observer.h"

namespace moesim {

// The job or read whose end let something else begin.
struct CauseRef {
  enum class Kind : std::uint8_t { kNone, kJob, kRead };
  CauseRef() = default;
  CauseRef(Kind what, std::uint32_t number, std::uint8_t over = 0)
      : kind(what), hop(over), id(number) {}

  Kind kind = Kind::kNone;
  std::uint8_t hop = 0;  // of a read
  std::uint32_t id = 0;
};

// The most recent records by increasing id; older ones are overwritten.
template <class Record>
class RecordRing {
 public:
  // Keeps at least `records`.
  explicit RecordRing(std::size_t records) : records_(std::bit_ceil(records)) {}

  std::uint32_t add(const Record& record) {
    records_[next_ & (records_.size() - 1)] = record;
    return next_++;
  }
  Record& operator[](std::uint32_t id) { return records_[id & (records_.size() - 1)]; }
  const Record& operator[](std::uint32_t id) const { return records_[id & (records_.size() - 1)]; }

 private:
  std::vector<Record> records_;
  std::uint32_t next_ = 0;
};

inline constexpr std::uint32_t kNoId = std::numeric_limits<std::uint32_t>::max();

// A job of the compute agent: a fixed part, then bytes.
struct JobRecord {
  std::uint32_t task = kNoId;  // of the graph; kNoId for work that no task waits for
  PathPart path_part{};
  bool merges = false;   // may run as one flow with the like of it
  bool on_cores = true;  // of the CPU, not of another agent
  JobSpan span;          // start and end are set as they happen
  Duration nominal{};
  BytesPerSecond rate{};
  TimePoint ready{};
  CauseRef cause;                  // what made it ready
  std::uint32_t previous = kNoId;  // the job before it on the agent
};

// A read through one lane and the device.
struct ReadRecord {
  std::uint32_t transfer = 0;
  ReadSpan span;
  TimePoint enqueued{};
  CauseRef cause;                          // what had it enqueued
  std::uint32_t previous_on_lane = kNoId;  // read ids
  std::uint32_t previous_on_device = kNoId;
};

}  // namespace moesim
