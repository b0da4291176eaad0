// The compute agent: all threads together, one job at a time, in the order in which jobs become
// ready. Its wall clock is partitioned completely; what is left over is the wait for reads.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "engine/event_queue.h"
#include "engine/memory_bus.h"
#include "engine/records.h"
#include "engine/run_observer.h"
#include "engine/sim_event.h"

namespace moesim {

class ComputeAgent {
 public:
  // `jobs`: how many records to keep; at least those of one pass and of what is waiting beside it.
  ComputeAgent(EventQueue<SimEvent>& queue, MemoryBus& bus, std::size_t jobs);

  // Queues a job, to be filled in before the next start_next(). REQUIRES: it takes time.
  JobRecord& submit();
  // Jobs with consecutive ids that ended together.
  struct Ended {
    std::uint32_t first = 0;
    std::uint32_t count = 0;
  };
  // The fixed part is over. Returns the job where that was all of it.
  std::optional<Ended> fixed_done();
  // The bytes have moved: the jobs under way have ended.
  Ended bytes_done();
  // Starts the next job, if there is one. Experts that wait one behind the other run as one flow,
  // because nothing can come between them and only the last one's end is waited for. Call after the
  // end of a job has been dealt with, so that what the end made ready queues behind what was ready
  // before.
  void start_next();

  // Starts a new account of time.
  void begin_pass() { parts_ = {}; }
  [[nodiscard]] const Durations<kTimeParts>& parts() const { return parts_; }
  [[nodiscard]] const JobRecord& job(std::uint32_t id) const { return jobs_[id]; }
  [[nodiscard]] bool idle() const { return !busy_ && first_ == waiting_.size(); }
  // Hears of jobs and stalls as they end; null for nobody.
  void set_observer(RunObserver* observer) { observer_ = observer; }

 private:
  Ended end_jobs();
  [[nodiscard]] bool continues(const JobRecord& first, std::uint32_t id) const;
  void spread_span(TimePoint now);
  void account(TimePart part, Duration time) { parts_[static_cast<std::size_t>(part)] += time; }

  EventQueue<SimEvent>& queue_;
  MemoryBus& bus_;
  RunObserver* observer_ = nullptr;
  RecordRing<JobRecord> jobs_;
  std::vector<std::uint32_t> waiting_;  // job ids, from first_
  std::size_t first_ = 0;
  bool busy_ = false;
  std::uint32_t current_ = kNoId;  // the first of the jobs under way
  std::uint32_t count_ = 1;        // jobs under way, with consecutive ids
  Duration nominal_{};             // of their bytes together
  std::uint32_t last_ = kNoId;     // the job that ended last
  TimePoint idle_since_{};
  TimePoint fixed_end_{};
  Durations<kTimeParts> parts_{};
};

}  // namespace moesim
