#include "engine/memory_bus.h"

#include <algorithm>

#include "hardware/max_min.h"

namespace moesim {
namespace {

// left * cap / rate, rounded up.
Duration stretched(Duration left, std::uint64_t cap, std::uint64_t rate) {
  if (rate == cap) return left;
  const Wide work = Wide{static_cast<std::uint64_t>(left.count())} * cap;
  return Duration{static_cast<std::int64_t>((work + rate - 1) / rate)};
}

// elapsed * rate / cap, rounded down.
Duration progress(Duration elapsed, std::uint64_t cap, std::uint64_t rate) {
  if (rate == cap) return elapsed;
  const Wide work = Wide{static_cast<std::uint64_t>(elapsed.count())} * rate;
  return Duration{static_cast<std::int64_t>(work / cap)};
}

}  // namespace

// At least one byte a second, so that a flow always ends.
std::uint64_t MemoryBus::limited(std::uint64_t cap) const {
  if (cores_.left == cores_.of) return cap;
  const Wide limit = Wide{cap} * cores_.left / cores_.of;
  return std::max(static_cast<std::uint64_t>(limit), std::uint64_t{1});
}

void MemoryBus::slow_cores(CoreShare cores) {
  cores_ = cores;
  Flow& compute = flows_[static_cast<std::size_t>(BusAgent::kCompute)];
  if (!compute.active || !compute.on_cores) return;
  compute.limit = limited(compute.cap);
  share();
}

void MemoryBus::begin(BusAgent agent, Duration nominal, BytesPerSecond cap, bool on_cores) {
  Flow& flow = flows_[static_cast<std::size_t>(agent)];
  flow.active = true;
  flow.left = nominal;
  flow.cap = to_integer(cap);
  flow.on_cores = on_cores && agent == BusAgent::kCompute;
  flow.limit = flow.on_cores ? limited(flow.cap) : flow.cap;
  flow.rate = 0;
  flow.since = queue_.now();
  share();
}

bool MemoryBus::finish(const BusDone& event) {
  Flow& flow = flows_[static_cast<std::size_t>(event.agent)];
  if (!flow.active || flow.version != event.version) return false;
  flow.active = false;
  share();
  return true;
}

void MemoryBus::share() {
  const Flow& a = flows_[0];
  const Flow& b = flows_[1];
  if (!b.active && a.limit <= to_integer(total_)) {  // the usual case: compute alone
    if (a.active) set_rate(BusAgent::kCompute, a.limit);
    return;
  }
  const std::array<std::uint64_t, 2> caps{a.active ? a.limit : 0, b.active ? b.limit : 0};
  std::array<std::uint64_t, 2> rates = caps;
  if (caps[0] + caps[1] > to_integer(total_)) max_min_rates(total_, caps, rates);
  if (a.active) set_rate(BusAgent::kCompute, rates[0]);
  if (b.active) set_rate(BusAgent::kFlash, rates[1]);
}

void MemoryBus::set_rate(BusAgent agent, std::uint64_t rate) {
  Flow& flow = flows_[static_cast<std::size_t>(agent)];
  if (flow.rate == rate) return;
  const TimePoint now = queue_.now();
  if (flow.rate > 0) flow.left -= progress(now - flow.since, flow.cap, flow.rate);
  flow.since = now;
  flow.rate = rate;
  ++flow.version;
  queue_.schedule(stretched(flow.left, flow.cap, rate), BusDone{agent, flow.version});
}

}  // namespace moesim
