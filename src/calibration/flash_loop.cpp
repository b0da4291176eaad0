#include "calibration/flash_loop.h"

namespace moesim {

void FlashLoop::keep_busy(std::uint64_t read_bytes) {
  again_ = FlashRead{0, read_bytes, false};
  // One read a lane waits, so that a lane that has ended one has the next at once.
  for (std::size_t i = 0; i < 2 * flash_.lanes(); ++i) flash_.enqueue(*again_);
  start_reads();
}

Duration FlashLoop::complete(std::size_t reads) {
  for (const std::size_t target = arrived_ + reads; arrived_ < target;) step();
  return now_;
}

Duration FlashLoop::drain(std::span<const std::uint64_t> reads) {
  const Duration start = now_;
  for (const std::uint64_t bytes : reads) flash_.enqueue({0, bytes, false});
  start_reads();
  while (!events_.empty()) step();
  return now_ - start;
}

void FlashLoop::start_reads() {
  while (const auto start = flash_.start_next()) {
    schedule(flash_.host_delay(start->read.bytes), Kind::kHost, start->lane);
  }
}

void FlashLoop::serve(std::size_t lane) {
  schedule(flash_.service_time_now(flash_.read_of(lane).bytes), Kind::kService, lane);
}

void FlashLoop::arrived() {
  ++arrived_;
  if (again_) flash_.enqueue(*again_);
  start_reads();
}

void FlashLoop::step() {
  const Event event = events_.top();
  events_.pop();
  now_ = event.at;
  if (event.kind == Kind::kHost) {
    if (flash_.host_done(event.lane)) serve(event.lane);
    if (flash_.submits_in_turn()) start_reads();
    return;
  }
  if (event.kind == Kind::kCopy) {
    flash_.copy_done(event.lane);
    arrived();
    return;
  }
  const FlashDevice::ServiceEnd end = flash_.service_done();
  if (end.next) serve(*end.next);
  if (flash_.bounces()) {
    schedule(flash_.copy_time(end.read.bytes), Kind::kCopy, end.lane);
  } else {
    arrived();
  }
}

}  // namespace moesim
