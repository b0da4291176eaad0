#include "engine/compute_agent.h"

#include <cmath>

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

// Whole products of experts at the same rate can share a flow.
bool ComputeAgent::continues(const JobRecord& first, std::uint32_t id) const {
  const JobRecord& job = jobs_[id];
  return id == current_ + count_ && job.span.kind == TaskKind::kExpert && job.merges &&
         job.rate == first.rate;
}

void ComputeAgent::start_next() {
  if (busy_ || first_ == waiting_.size()) return;
  current_ = waiting_[first_++];
  count_ = 1;
  JobRecord& job = jobs_[current_];
  nominal_ = job.nominal;
  while (job.merges && first_ < waiting_.size() && continues(job, waiting_[first_])) {
    nominal_ += jobs_[waiting_[first_++]].nominal;
    ++count_;
  }
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
  job.span.start = now;
  job.previous = last_;
  fixed_end_ = now;
  if (job.span.fixed > Duration::zero()) {
    queue_.schedule(job.span.fixed, FixedDone{});
  } else {
    bus_.begin(BusAgent::kCompute, nominal_, job.rate, job.on_cores);
  }
}

std::optional<ComputeAgent::Ended> ComputeAgent::fixed_done() {
  const JobRecord& job = jobs_[current_];
  fixed_end_ = queue_.now();
  if (job.nominal > Duration::zero()) {
    bus_.begin(BusAgent::kCompute, job.nominal, job.rate, job.on_cores);
    return std::nullopt;
  }
  return end_jobs();
}

ComputeAgent::Ended ComputeAgent::bytes_done() { return end_jobs(); }

ComputeAgent::Ended ComputeAgent::end_jobs() {
  if (!busy_) throw InvariantError("the compute agent ended a job that it had not begun");
  const JobRecord& job = jobs_[current_];
  const TimePoint now = queue_.now();
  // Fixed time of a product is overhead; an admission is all fixed and is its own part.
  const bool is_product = job.span.part == TimePart::kCompute;
  account(is_product ? TimePart::kOverhead : job.span.part, fixed_end_ - job.span.start);
  account(job.span.part, now - fixed_end_);
  spread_span(now);
  busy_ = false;
  last_ = current_ + count_ - 1;
  idle_since_ = now;
  return {current_, count_};
}

// Divides the time of jobs that ran as one flow by their bytes; each begins where the one before
// it ended.
void ComputeAgent::spread_span(TimePoint now) {
  const TimePoint start = jobs_[current_].span.start;
  const auto total = static_cast<double>((now - start).count());
  Duration done{};
  for (std::uint32_t i = 0; i < count_; ++i) {
    JobRecord& job = jobs_[current_ + i];
    if (i > 0) {
      job.span.start = jobs_[current_ + i - 1].span.end;
      job.previous = current_ + i - 1;
    }
    done += job.nominal;
    const double share = static_cast<double>(done.count()) / static_cast<double>(nominal_.count());
    job.span.end = i + 1 == count_ ? now : start + Duration{std::llround(total * share)};
    if (observer_ != nullptr) observer_->on_job(job.span);
  }
}

}  // namespace moesim
