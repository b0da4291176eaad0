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
  // The fixed part is over. Returns the job where that was all of it.
  std::optional<std::uint32_t> fixed_done();
  // The bytes have moved: the job has ended.
  std::uint32_t bytes_done();
  // Starts the next job, if there is one. Call after the end of a job has been dealt with, so that
  // what the end made ready queues behind what was ready before.
  void start_next();

  // Starts a new account of time.
  void begin_pass() { parts_ = {}; }
  [[nodiscard]] const Durations<kTimeParts>& parts() const { return parts_; }
  [[nodiscard]] const JobRecord& job(std::uint32_t id) const { return jobs_[id]; }
  [[nodiscard]] bool idle() const { return !busy_ && first_ == waiting_.size(); }
  // Hears of jobs and stalls as they end; null for nobody.
  void set_observer(RunObserver* observer) { observer_ = observer; }

 private:
  std::uint32_t end_job();
  void account(TimePart part, Duration time) { parts_[static_cast<std::size_t>(part)] += time; }

  EventQueue<SimEvent>& queue_;
  MemoryBus& bus_;
  RunObserver* observer_ = nullptr;
  RecordRing<JobRecord> jobs_;
  std::vector<std::uint32_t> waiting_;  // job ids, from first_
  std::size_t first_ = 0;
  bool busy_ = false;
  std::uint32_t current_ = kNoId;
  std::uint32_t last_ = kNoId;  // the job that ended last
  TimePoint idle_since_{};
  TimePoint fixed_end_{};
  Durations<kTimeParts> parts_{};
};

}  // namespace moesim
