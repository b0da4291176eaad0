#include "hardware/flash_device.h"

#include <algorithm>

#include "core/errors.h"

namespace moesim {
namespace {

// Reads of one layer with all experts missing, in slices, fit without growing.
constexpr std::size_t kQueuedReads = 256;

}  // namespace

template <class T>
void FlashDevice::Ring<T>::push(const T& item) {
  if (size_ == items_.size()) reserve(2 * size_);
  items_[(first_ + size_) % items_.size()] = item;
  ++size_;
}

template <class T>
void FlashDevice::Ring<T>::reserve(std::size_t capacity) {
  if (capacity <= items_.size()) return;
  std::vector<T> larger(capacity);
  for (std::size_t i = 0; i < size_; ++i) larger[i] = at(i);
  items_.swap(larger);
  first_ = 0;
}

template <class T>
T FlashDevice::Ring<T>::pop() {
  const T item = items_[first_];
  first_ = (first_ + 1) % items_.size();
  --size_;
  return item;
}

template <class T>
void FlashDevice::Ring<T>::erase(std::size_t i) {
  for (; i + 1 < size_; ++i) at(i) = at(i + 1);
  --size_;
}

FlashDevice::FlashDevice(const FlashSpec& spec, std::size_t lanes)
    : spec_(spec),
      host_delay_(from_us(spec.host_delay_us)),
      copy_rate_(to_rate(spec.copy_gbps)),
      command_time_(from_us(spec.dev_cmd_us)),
      device_rate_(to_rate(spec.bw_gbps)),
      bounce_rate_(to_rate(spec.bounce_gbps)),
      lane_reads_(std::min(lanes, spec.qd_limit)),
      lane_stages_(lane_reads_.size(), Stage::kIdle),
      demand_(kQueuedReads),
      speculative_(kQueuedReads),
      device_queue_(std::max<std::size_t>(lane_reads_.size(), 1)) {
  if (lane_reads_.empty()) throw InvariantError("FlashDevice: at least one lane");
  if (to_integer(device_rate_) == 0) throw InvariantError("FlashDevice: a device rate above 0");
}

void FlashDevice::reserve(std::size_t reads) {
  demand_.reserve(reads);
  speculative_.reserve(reads);
}

Duration FlashDevice::host_delay(std::uint64_t bytes) const {
  if (to_integer(copy_rate_) == 0) return host_delay_;
  return host_delay_ + transfer_time(bytes, copy_rate_);
}

Duration FlashDevice::service_time(std::uint64_t bytes) const {
  return command_time_ + transfer_time(bytes, device_rate_);
}

Duration FlashDevice::copy_time(std::uint64_t bytes) const {
  return bounces() ? transfer_time(bytes, bounce_rate_) : Duration::zero();
}

// A rate above 0 stays above 0, for 0 stands for no copy.
void FlashDevice::set_clock(double relative) {
  if (!(relative > 0)) throw InvariantError("FlashDevice::set_clock: a clock above 0");
  const auto scaled = [relative](double gbps) {
    return gbps > 0 ? to_rate(std::max(gbps * relative, 1e-9)) : BytesPerSecond{0};
  };
  host_delay_ = from_us(spec_.host_delay_us / relative);
  copy_rate_ = scaled(spec_.copy_gbps);
  bounce_rate_ = scaled(spec_.bounce_gbps);
}

void FlashDevice::set_derate(double derate) {
  if (!(derate > 0)) throw InvariantError("FlashDevice::set_derate: a share above 0");
  device_rate_ = to_rate(std::max(spec_.bw_gbps * derate, 1e-9));
}

void FlashDevice::enqueue(const FlashRead& read) {
  (read.speculative ? speculative_ : demand_).push(read);
}

std::size_t FlashDevice::promote(std::uint32_t tag) {
  std::size_t moved = 0;
  for (std::size_t i = 0; i < speculative_.size();) {
    if (speculative_.at(i).tag != tag) {
      ++i;
      continue;
    }
    FlashRead read = speculative_.at(i);
    read.speculative = false;
    speculative_.erase(i);
    demand_.push(read);
    ++moved;
  }
  return moved;
}

std::size_t FlashDevice::cancel_queued(std::uint32_t tag) {
  const std::size_t before = speculative_.size();
  for (std::size_t i = 0; i < speculative_.size();) {
    if (speculative_.at(i).tag == tag) {
      speculative_.erase(i);
    } else {
      ++i;
    }
  }
  return before - speculative_.size();
}

std::optional<FlashDevice::LaneStart> FlashDevice::start_next() {
  if (busy_lanes_ == lanes() || (demand_.empty() && speculative_.empty())) return std::nullopt;
  const auto idle_lane = std::find(lane_stages_.begin(), lane_stages_.end(), Stage::kIdle);
  *idle_lane = Stage::kHost;
  const auto lane = static_cast<std::size_t>(idle_lane - lane_stages_.begin());
  lane_reads_[lane] = demand_.empty() ? speculative_.pop() : demand_.pop();
  ++busy_lanes_;
  return LaneStart{lane, lane_reads_[lane]};
}

std::optional<std::size_t> FlashDevice::host_done(std::size_t lane) {
  if (lane >= lanes() || lane_stages_[lane] != Stage::kHost) {
    throw InvariantError("FlashDevice::host_done: this lane has no read on the host");
  }
  lane_stages_[lane] = Stage::kDevice;
  const bool was_free = device_queue_.empty();
  device_queue_.push(lane);
  return was_free ? std::optional(lane) : std::nullopt;
}

FlashDevice::ServiceEnd FlashDevice::service_done() {
  if (device_queue_.empty()) throw InvariantError("FlashDevice::service_done: nothing in service");
  ServiceEnd end;
  end.lane = device_queue_.pop();
  end.read = lane_reads_[end.lane];
  if (!device_queue_.empty()) end.next = device_queue_.at(0);
  lane_stages_[end.lane] = Stage::kCopy;
  if (!bounces()) release(end.lane);
  return end;
}

void FlashDevice::copy_done(std::size_t lane) {
  if (lane >= lanes() || lane_stages_[lane] != Stage::kCopy) {
    throw InvariantError("FlashDevice::copy_done: this lane has nothing to copy");
  }
  release(lane);
}

void FlashDevice::release(std::size_t lane) {
  lane_stages_[lane] = Stage::kIdle;
  --busy_lanes_;
}

bool FlashDevice::idle() const {
  return busy_lanes_ == 0 && demand_.empty() && speculative_.empty();
}

}  // namespace moesim
