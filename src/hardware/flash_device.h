// Flash as a closed queue: lanes that each hold one blocking read, and one FIFO device server
// behind them.
//
// A read takes an idle lane, spends the host delay there (parallel across lanes), then waits for
// the device, which serves one read at a time without preemption: a fixed time per read plus its
// bytes at the device rate. The fixed time may depend on how many reads are in flight when the
// service begins, so that what a device does side by side for several reads is in it (a
// flow-equivalent server: Chandy, Herzog, Woo, 1975, "Parametric analysis of queuing networks").
// Where reads are bounced the lane then copies the bytes to where they belong, and only then the
// read has arrived and the lane is idle again. Demand reads go before speculative ones when a lane
// becomes idle; a read that holds a lane is not recalled. Where submission is asynchronous, one
// core queues the commands of all reads one after the other: lanes are then places in the queue.
// Small reads: small_reads.h. Left out: page cache, write traffic. Source of the form: hardware
// reference, sections 1.2 and 7.1.
//
// The class knows no clock: whoever drives it schedules the delays that it names. Memory is taken
// by the constructor and by reserve(); a queue beyond that doubles.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "core/units.h"
#include "hardware/device.h"
#include "hardware/small_reads.h"

namespace moesim {

// One read of contiguous bytes. `tag` belongs to the caller.
struct FlashRead {
  std::uint32_t tag = 0;
  std::uint64_t bytes = 0;
  bool speculative = false;
};

class FlashDevice {
 public:
  // `lanes`: reads that may be outstanding; limited by spec.qd_limit. REQUIRES: lanes > 0. Reads
  // are bounced where spec.bounce_gbps is above 0. `range_bytes`: see SmallReads.
  FlashDevice(const FlashSpec& spec, std::size_t lanes, std::uint64_t range_bytes = 0);

  // Makes room for this many queued reads of each kind.
  void reserve(std::size_t reads);

  [[nodiscard]] std::size_t lanes() const { return lane_reads_.size(); }
  // Time on the host before the device sees the read: of a thread, whatever the size of its
  // commands, or of the core that submits them all.
  [[nodiscard]] Duration host_delay(std::uint64_t bytes) const;
  // Commands that a read is split into.
  [[nodiscard]] std::uint64_t commands(std::uint64_t bytes) const;
  // One core submits, so that at most one lane is in its host delay.
  [[nodiscard]] bool submits_in_turn() const { return submits_in_turn_; }
  // Device time beside the bytes: the least, and of a read whose service begins now.
  [[nodiscard]] Duration command_time() const { return command_time_; }
  [[nodiscard]] Duration command_time_now() const;
  // The rate of the bytes when nothing else limits it.
  [[nodiscard]] BytesPerSecond device_rate() const { return device_rate_; }
  // command_time() + bytes at device_rate(), and more for small reads.
  [[nodiscard]] Duration service_time(std::uint64_t bytes) const {
    return service_time(bytes, command_time_);
  }
  // The same with command_time_now(), for a read whose service begins now.
  [[nodiscard]] Duration service_time_now(std::uint64_t bytes) const {
    return service_time(bytes, command_time_now());
  }
  [[nodiscard]] bool bounces() const { return to_integer(bounce_rate_) > 0; }
  // Time that the lane copies after the service; 0 where reads are not bounced.
  [[nodiscard]] Duration copy_time(std::uint64_t bytes) const;

  // The clock of the cores over the one at which the spec holds: what the host does (host delay,
  // bounce copy) takes longer at a slower one. `derate`: the share of its rate that the device
  // keeps, 1 when cool. Both hold for what starts from now on. REQUIRES: > 0.
  void set_clock(double relative);
  void set_derate(double derate);

  // Queues a read behind those of its kind.
  void enqueue(const FlashRead& read);
  // Turns the queued speculative reads with this tag into demand reads, behind those already
  // queued. Reads that hold a lane stay as they are. Returns how many moved.
  std::size_t promote(std::uint32_t tag);
  // Drops queued speculative reads with this tag; returns how many.
  std::size_t cancel_queued(std::uint32_t tag);

  struct LaneStart {
    std::size_t lane = 0;
    FlashRead read;
  };
  // Gives the next queued read to the idle lane with the lowest number; nullopt when there is no
  // idle lane, no read, or a core that submits in turn and is busy. The caller calls
  // host_done(lane) after host_delay(read.bytes).
  std::optional<LaneStart> start_next();

  // The host part of this lane's read is over: it joins the device queue. Returns the lane whose
  // service starts now, if the device was free. The caller calls service_done() at its end.
  std::optional<std::size_t> host_done(std::size_t lane);

  struct ServiceEnd {
    std::size_t lane = 0;  // now idle; where reads are bounced it copies until copy_done()
    FlashRead read;
    std::optional<std::size_t> next;  // the lane whose service starts now
  };
  ServiceEnd service_done();
  // The copy of this lane's read is over, copy_time(its bytes) after its service: it is idle.
  void copy_done(std::size_t lane);

  // REQUIRES: the lane holds a read.
  [[nodiscard]] const FlashRead& read_of(std::size_t lane) const { return lane_reads_[lane]; }
  [[nodiscard]] std::size_t busy_lanes() const { return busy_lanes_; }
  [[nodiscard]] bool idle() const;  // no read queued or outstanding

 private:
  void release(std::size_t lane);
  [[nodiscard]] Duration service_time(std::uint64_t bytes, Duration command_time) const;

  // Where the read of a lane is.
  enum class Stage : std::uint8_t { kIdle, kHost, kDevice, kCopy };

  // A first-in first-out queue in a ring that grows only when full.
  template <class T>
  class Ring {
   public:
    // REQUIRES: capacity > 0.
    explicit Ring(std::size_t capacity) : items_(capacity) {}
    [[nodiscard]] bool empty() const { return size_ == 0; }
    [[nodiscard]] std::size_t size() const { return size_; }
    T& at(std::size_t i) { return items_[(first_ + i) % items_.size()]; }
    void reserve(std::size_t capacity);
    void push(const T& item);
    T pop();
    void erase(std::size_t i);

   private:
    std::vector<T> items_;
    std::size_t first_ = 0;
    std::size_t size_ = 0;
  };

  FlashSpec spec_;
  Duration host_delay_;
  BytesPerSecond copy_rate_;             // 0 = none
  Duration command_time_;                // the least of the next
  std::vector<Duration> command_times_;  // [lanes] of 1, 2, ... reads in flight; empty: all alike
  BytesPerSecond device_rate_;
  BytesPerSecond bounce_rate_;  // 0 = not bounced
  SmallReads small_reads_;
  bool submits_in_turn_;
  bool submitting_ = false;
  Duration submit_time_{};             // of one command
  std::uint64_t max_cmd_;              // bytes; 0 = commands are never split
  std::vector<FlashRead> lane_reads_;  // [lanes]
  std::vector<Stage> lane_stages_;     // [lanes]
  std::size_t busy_lanes_ = 0;
  Ring<FlashRead> demand_;
  Ring<FlashRead> speculative_;
  Ring<std::size_t> device_queue_;  // lanes, the front one in service
};

}  // namespace moesim
