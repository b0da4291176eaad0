#include "hardware/flash_device.h"

#include <algorithm>
#include <cmath>

#include "core/errors.h"
#include "hardware/interpolate.h"

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

FlashDevice::FlashDevice(const FlashSpec& spec, std::size_t lanes, std::uint64_t range_bytes)
    : spec_(spec),
      host_delay_(from_us(spec.host_delay_us)),
      copy_rate_(to_rate(spec.copy_gbps)),
      command_time_(from_us(spec.dev_cmd_us)),
      device_rate_(to_rate(spec.bw_gbps)),
      bounce_rate_(to_rate(spec.bounce_gbps)),
      small_reads_(spec, std::min(lanes, spec.qd_limit), range_bytes),
      submits_in_turn_(spec.submission == Submission::kAsync),
      max_cmd_(static_cast<std::uint64_t>(std::llround(spec.max_cmd_kib * 1024))),
      lane_reads_(std::min(lanes, spec.qd_limit)),
      lane_stages_(lane_reads_.size(), Stage::kIdle),
      demand_(kQueuedReads),
      speculative_(kQueuedReads),
      device_queue_(std::max<std::size_t>(lane_reads_.size(), 1)) {
  if (lane_reads_.empty()) throw InvariantError("FlashDevice: at least one lane");
  if (to_integer(device_rate_) == 0) throw InvariantError("FlashDevice: a device rate above 0");
  if (submits_in_turn_ && !(spec.issue_clock_ghz > 0)) {
    throw InvariantError("FlashDevice: the core that submits needs a clock");
  }
  if (!spec.command_curve.empty()) {
    command_times_.reserve(lane_reads_.size());
    for (std::size_t reads = 1; reads <= lane_reads_.size(); ++reads) {
      command_times_.push_back(
          from_us(interpolate(spec.command_curve, static_cast<double>(reads))));
    }
    command_time_ = *std::min_element(command_times_.begin(), command_times_.end());
  }
  set_clock(1);
  set_derate(1);
}

void FlashDevice::reserve(std::size_t reads) {
  demand_.reserve(reads);
  speculative_.reserve(reads);
}

Duration FlashDevice::host_delay(std::uint64_t bytes) const {
  const Duration delay =
      submits_in_turn_ ? static_cast<std::int64_t>(commands(bytes)) * submit_time_ : host_delay_;
  if (to_integer(copy_rate_) == 0) return delay;
  return delay + transfer_time(bytes, copy_rate_);
}

std::uint64_t FlashDevice::commands(std::uint64_t bytes) const {
  return max_cmd_ == 0 || bytes <= max_cmd_ ? 1 : (bytes + max_cmd_ - 1) / max_cmd_;
}

Duration FlashDevice::command_time_now() const {
  if (command_times_.empty()) return command_time_;
  const std::size_t wanted = busy_lanes_ + demand_.size() + speculative_.size();
  return command_times_[std::clamp<std::size_t>(wanted, 1, command_times_.size()) - 1];
}

Duration FlashDevice::service_time(std::uint64_t bytes, Duration command_time) const {
  const Duration time = command_time + transfer_time(bytes, device_rate_);
  return bytes < small_reads_.end() ? small_reads_.service_time(bytes, time) : time;
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
  if (submits_in_turn_) {
    submit_time_ = from_us(spec_.cycles_per_cmd / (spec_.issue_clock_ghz * 1e3 * relative));
  }
}

void FlashDevice::set_derate(double derate) {
  if (!(derate > 0)) throw InvariantError("FlashDevice::set_derate: a share above 0");
  device_rate_ = to_rate(std::max(spec_.bw_gbps * derate, 1e-9));
  const Duration queue_time = command_time_ + transfer_time(small_reads_.curve_end(), device_rate_);
  small_reads_.meet(queue_time, derate);
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
  if (submitting_ || busy_lanes_ == lanes()) return std::nullopt;
  if (demand_.empty() && speculative_.empty()) return std::nullopt;
  submitting_ = submits_in_turn_;
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
  submitting_ = false;
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
