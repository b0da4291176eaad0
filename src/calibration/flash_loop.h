// A FlashDevice with an event queue of its own (the engine's lies in a layer above): lanes that
// always have a next read, or a number of reads that are queued at once and drained.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <queue>
#include <span>
#include <vector>

#include "hardware/flash_device.h"

namespace moesim {

class FlashLoop {
 public:
  // As FlashDevice.
  FlashLoop(const FlashSpec& spec, std::size_t lanes) : flash_(spec, lanes) {}

  [[nodiscard]] FlashDevice& device() { return flash_; }
  // From now on every lane has a read of so many bytes, and the next one when it has arrived.
  void keep_busy(std::uint64_t read_bytes);
  // Runs until `reads` more reads have arrived; returns when. REQUIRES: keep_busy() before.
  Duration complete(std::size_t reads);
  // Queues these reads at once and runs until the last has arrived; returns how long that took.
  // REQUIRES: no keep_busy() before.
  Duration drain(std::span<const std::uint64_t> reads);

 private:
  enum class Kind : std::uint8_t { kHost, kService, kCopy };
  struct Event {
    Duration at;
    std::uint64_t sequence;
    Kind kind;
    std::size_t lane;
    bool operator>(const Event& other) const {
      return at != other.at ? at > other.at : sequence > other.sequence;
    }
  };

  void schedule(Duration delay, Kind kind, std::size_t lane) {
    events_.push({now_ + delay, sequence_++, kind, lane});
  }
  void start_reads();
  void serve(std::size_t lane);
  void arrived();
  void step();

  FlashDevice flash_;
  std::optional<FlashRead> again_;
  Duration now_{0};
  std::uint64_t sequence_ = 0;
  std::size_t arrived_ = 0;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
};

}  // namespace moesim
