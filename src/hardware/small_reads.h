// What holds small reads back beside the queue of the device: commands per second, the range that
// they are spread over, and several cores that share one submission queue.
//
// The curve of a device is what it served of small reads in bytes per second, by size (log-log
// between its points). Below its first point a read takes as long as there: so many commands per
// second and no more. Its last point is where it ends: from there on the queue model (device time
// per read + bytes / rate) holds alone. Where that is faster than the last point says, the point is
// raised to it, so that the two meet and a read that is longer never takes less time for it. A read
// on the curve takes what the slower of the two says. Source: hardware reference, 1.1 and 7.1.
#pragma once

#include <cstdint>
#include <vector>

#include "core/units.h"
#include "hardware/device.h"

namespace moesim {

class SmallReads {
 public:
  // `lanes`: reads that may be outstanding. `range_bytes`: what the reads are spread over; 0: a
  // range so small that it costs nothing.
  SmallReads(const FlashSpec& spec, std::size_t lanes, std::uint64_t range_bytes);

  // Reads of as many bytes and more are not held back.
  [[nodiscard]] std::uint64_t end() const { return end_; }
  // Size at which the curve ends; 0 where there is none.
  [[nodiscard]] std::uint64_t curve_end() const { return curve_end_; }
  // `derate`: the share of its rate that the device keeps. `queue_time`: what the queue model says,
  // thus derated, of a read of curve_end() bytes.
  void meet(Duration queue_time, double derate);
  // Device time of a read for which the queue model says `queue_time`. REQUIRES: bytes < end().
  [[nodiscard]] Duration service_time(std::uint64_t bytes, Duration queue_time) const;

 private:
  struct Point {
    double log_bytes = 0;
    double log_rate = 0;  // bytes per second
  };

  [[nodiscard]] double curve_time(double log_bytes) const;  // ps

  std::vector<Point> measured_;  // as in the device file, the range included
  std::vector<Point> curve_;     // derated, the last point raised where need be
  std::uint64_t curve_end_ = 0;
  double log_issuer_share_ = 0;  // at 4 KiB; 0: no loss
  std::uint64_t end_ = 0;
};

}  // namespace moesim
