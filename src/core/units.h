// Simulated time and data rates as integers.
//
// Time is counted in integer picoseconds: exact, totally ordered, 106 days before overflow. There
// is no now(): a clock belongs to one event queue, never to the process.
#pragma once

#include <chrono>
#include <cmath>
#include <cstdint>
#include <limits>
#include <ratio>

namespace moesim {

struct SimClock {
  using rep = std::int64_t;
  using period = std::pico;
  using duration = std::chrono::duration<rep, period>;
  using time_point = std::chrono::time_point<SimClock, duration>;
};
using Duration = SimClock::duration;
using TimePoint = SimClock::time_point;

// Bytes per second. Rates in configuration files are GB/s (10^9 B/s); to_rate() converts.
enum class BytesPerSecond : std::uint64_t {};

inline constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

__extension__ using Wide = unsigned __int128;

constexpr std::uint64_t to_integer(BytesPerSecond rate) { return static_cast<std::uint64_t>(rate); }

// GB/s (10^9 B/s) as an integer rate, rounded to the nearest byte per second.
inline BytesPerSecond to_rate(double gbps) {
  return static_cast<BytesPerSecond>(std::llround(gbps * 1e9));
}

// Microseconds as an integer duration, rounded to the nearest picosecond. REQUIRES: us >= 0.
inline Duration from_us(double us) { return Duration{std::llround(us * 1e6)}; }

constexpr double to_ms(Duration d) { return static_cast<double>(d.count()) * 1e-9; }
constexpr double to_us(Duration d) { return static_cast<double>(d.count()) * 1e-6; }
constexpr double to_seconds(Duration d) { return static_cast<double>(d.count()) * 1e-12; }
constexpr double to_mib(std::uint64_t bytes) {
  return static_cast<double>(bytes) / static_cast<double>(kMiB);
}

// Time to move `bytes` at `rate`, rounded up so that a transfer is never free, and at most 26 days.
// REQUIRES: rate > 0.
constexpr Duration transfer_time(std::uint64_t bytes, BytesPerSecond rate) {
  constexpr std::uint64_t kPerSecond = static_cast<std::uint64_t>(std::pico::den);
  const std::uint64_t rate_bps = to_integer(rate);
  if (bytes <= (std::numeric_limits<std::uint64_t>::max() - rate_bps) / kPerSecond) {
    return Duration{static_cast<std::int64_t>((bytes * kPerSecond + rate_bps - 1) / rate_bps)};
  }
  // 128 bits, which divide far more slowly: 19 MB x 10^12 ps/s already overflows 64.
  const auto numerator = Wide{bytes} * kPerSecond;
  const Wide picoseconds = (numerator + rate_bps - 1) / rate_bps;
  constexpr auto kLongest = static_cast<Wide>(std::numeric_limits<std::int64_t>::max() / 4);
  return Duration{static_cast<std::int64_t>(picoseconds < kLongest ? picoseconds : kLongest)};
}

}  // namespace moesim
