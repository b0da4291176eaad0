#include "engine/compute_agent.h"

#include "core/errors.h"

namespace moesim {

ComputeAgent::ComputeAgent(EventQueue<SimEvent>& queue, MemoryBus& bus, std::size_t jobs)
    : queue_(queue), bus_(bus), jobs_(jobs) {
  waiting_.reserve(jobs);
}

JobRecord& ComputeAgent::submit() {
  const std::uint32_t id = jobs_.add({});
  waiting_.push_back(id);
  JobRecord& job = jobs_[id];
  job.ready = queue_.now();
  return job;
}

void ComputeAgent::start_next() {
  if (busy_ || first_ == waiting_.size()) return;
  current_ = waiting_[first_++];
  if (first_ == waiting_.size()) {
    waiting_.clear();
    first_ = 0;
  }
  busy_ = true;
  const TimePoint now = queue_.now();
  if (now > idle_since_) {
    account(TimePart::kFlashStall, now - idle_since_);
    if (observer_ != nullptr) observer_->on_stall(idle_since_, now);
  }
  JobRecord& job = jobs_[current_];
  job.span.start = now;
  job.previous = last_;
  fixed_end_ = now;
  if (job.span.fixed > Duration::zero()) {
    queue_.schedule(job.span.fixed, FixedDone{});
  } else {
    bus_.begin(BusAgent::kCompute, job.nominal, job.rate);
  }
}

std::optional<std::uint32_t> ComputeAgent::fixed_done() {
  const JobRecord& job = jobs_[current_];
  fixed_end_ = queue_.now();
  if (job.nominal > Duration::zero()) {
    bus_.begin(BusAgent::kCompute, job.nominal, job.rate);
    return std::nullopt;
  }
  return end_job();
}

std::uint32_t ComputeAgent::bytes_done() { return end_job(); }

std::uint32_t ComputeAgent::end_job() {
  if (!busy_) throw InvariantError("the compute agent ended a job that it had not begun");
  JobRecord& job = jobs_[current_];
  const TimePoint now = queue_.now();
  job.span.end = now;
  // Fixed time of a product is overhead; an admission is all fixed and is its own part.
  const bool is_product = job.span.part == TimePart::kCompute;
  account(is_product ? TimePart::kOverhead : job.span.part, fixed_end_ - job.span.start);
  account(job.span.part, now - fixed_end_);
  if (observer_ != nullptr) observer_->on_job(job.span);
  busy_ = false;
  last_ = current_;
  idle_since_ = now;
  return current_;
}

}  // namespace moesim
