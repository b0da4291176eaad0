#include "engine/critical_path.h"

#include <algorithm>

namespace moesim {
namespace {

class PathWalk {
 public:
  PathWalk(const ComputeAgent& compute, const StorePath& store, TimePoint start)
      : compute_(compute), store_(store), start_(start) {}

  Durations<kPathParts> from_job(std::uint32_t last) {
    at_ = compute_.job(last).span.end;
    CauseRef ref{CauseRef::Kind::kJob, last};
    while (at_ > start_ && ref.kind != CauseRef::Kind::kNone) {
      ref = ref.kind == CauseRef::Kind::kJob ? through_job(ref.id) : through_read(ref);
    }
    return parts_;
  }

 private:
  // Charges the time back to `until`, but not beyond the start of the pass.
  void charge(PathPart part, TimePoint until) {
    const TimePoint to = std::max(until, start_);
    if (to < at_) {
      parts_[static_cast<std::size_t>(part)] += at_ - to;
      at_ = to;
    }
  }

  CauseRef through_job(std::uint32_t id) {
    const JobRecord& job = compute_.job(id);
    charge(job.path_part, job.span.start + job.span.fixed);
    const bool is_product = job.span.part == TimePart::kCompute;
    charge(is_product ? PathPart::kOverhead : job.path_part, job.span.start);
    const bool queued = job.span.start > job.ready;
    return queued ? CauseRef{CauseRef::Kind::kJob, job.previous} : job.cause;
  }

  CauseRef through_read(const CauseRef& ref) {
    const ReadRecord& read = store_.read(ref);
    const bool over_link = read.span.over_link;
    // A read that waited for this one to be submitted saw no more of it.
    if (at_ <= read.span.host_end) return through_host(read, ref);
    charge(PathPart::kFlashHost, read.span.service_end);
    charge(over_link ? PathPart::kLink : PathPart::kFlashDevice, read.span.service_start);
    if (read.span.service_start > read.span.host_end) {
      return {CauseRef::Kind::kRead, read.previous_on_device, ref.hop};
    }
    return through_host(read, ref);
  }

  CauseRef through_host(const ReadRecord& read, const CauseRef& ref) {
    charge(read.span.over_link ? PathPart::kLink : PathPart::kFlashHost, read.span.lane_start);
    if (read.span.lane_start > read.enqueued) {
      return {CauseRef::Kind::kRead, read.previous_on_lane, ref.hop};
    }
    return read.cause;
  }

  const ComputeAgent& compute_;
  const StorePath& store_;
  TimePoint start_;
  TimePoint at_{};
  Durations<kPathParts> parts_{};
};

}  // namespace

Durations<kPathParts> critical_path(const ComputeAgent& compute, const StorePath& store,
                                    std::uint32_t last, TimePoint start) {
  return PathWalk(compute, store, start).from_job(last);
}

}  // namespace moesim
