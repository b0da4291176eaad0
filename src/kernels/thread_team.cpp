#include "kernels/thread_team.h"

#if defined(__linux__)
#include <sched.h>
#endif

#include "core/errors.h"
#include "kernels/pause.h"

namespace moesim {
namespace {

// Longer than the threads' ends usually lie apart, shorter than a sleep and a wake-up cost.
constexpr std::chrono::microseconds kSpin{50};
constexpr int kPausesPerLook = 16;  // Between two looks at the clock.
constexpr int kYields = 4;

// gate_: threads at the job in bits 0 to 7, closed in bit 8, the job's number above.
constexpr std::uint32_t kInside = 0xFF;
constexpr std::uint32_t kClosed = 0x100;
constexpr int kNumberShift = 9;

constexpr std::uint32_t number_of(std::uint32_t gate) { return gate >> kNumberShift; }

constexpr int kUnknownCore = -1;

// The core that the calling thread runs on at the moment.
int present_core() {
#if defined(__linux__)
  return sched_getcpu();
#else
  return kUnknownCore;
#endif
}

// Moves the calling thread from `core` to another one that it may use, and does not bind it there.
// A busy system wakes a thread on the core of who woke it, and may leave both there for long.
void leave_core(int core) {
#if defined(__linux__)
  cpu_set_t allowed;
  if (core < 0 || core >= CPU_SETSIZE) return;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
  cpu_set_t others = allowed;
  CPU_CLR(static_cast<std::size_t>(core), &others);
  if (CPU_COUNT(&others) == 0) return;
  if (sched_setaffinity(0, sizeof others, &others) != 0) return;
  // Should this fail the thread keeps all cores but one, which is no error.
  static_cast<void>(sched_setaffinity(0, sizeof allowed, &allowed));
#else
  static_cast<void>(core);
#endif
}

}  // namespace

// Job 0 is over before it began.
ThreadTeam::ThreadTeam(std::size_t threads) : spin_(kSpin), size_(threads), gate_(kClosed) {
  if (threads == 0 || threads > kMaxThreads) {
    throw InvariantError("a team has 1 to 255 threads");
  }
  // The cores that this process may use, or 0 where that is unknown.
  const std::size_t cores = std::thread::hardware_concurrency();
  if (cores != 0 && threads > cores) spin_ = std::chrono::nanoseconds::zero();
  workers_.reserve(threads - 1);
  try {
    for (std::size_t i = 1; i < threads; ++i) {
      workers_.emplace_back([this] { serve(); });
    }
  } catch (...) {
    stop();
    throw;
  }
}

ThreadTeam::~ThreadTeam() { stop(); }

void ThreadTeam::stop() {
  open(nullptr, nullptr);
  for (std::thread& worker : workers_) worker.join();
}

void ThreadTeam::run(Task task, const void* work) {
  if (size_ == 1) return task(work);
  open(task, work);
  task(work);
  close();
}

// REQUIRES: the last job is closed and nobody is at it.
void ThreadTeam::open(Task task, const void* work) {
  task_ = task;
  work_ = work;
  callers_core_.store(present_core(), std::memory_order_relaxed);
  const std::uint32_t number = number_of(gate_.load(std::memory_order_relaxed)) + 1;
  gate_.store(number << kNumberShift, std::memory_order_release);
  gate_.notify_all();
}

void ThreadTeam::close() {
  const std::uint32_t gate = gate_.fetch_or(kClosed, std::memory_order_acq_rel);
  if ((gate & kInside) == 0) return;
  wait_until(finished_, [&](std::uint32_t number) { return number == number_of(gate); });
}

void ThreadTeam::serve() {
  for (std::uint32_t seen = 0;;) {
    if (!enter(seen)) continue;
    const bool ends = task_ == nullptr;
    if (!ends) task_(work_);
    leave();
    if (ends) return;
  }
}

// Waits for another job than `seen`, which it becomes; false where that is closed by now.
bool ThreadTeam::enter(std::uint32_t& seen) {
  std::uint32_t gate = wait_until(gate_, [&](std::uint32_t now) { return number_of(now) != seen; });
  const int callers_core = callers_core_.load(std::memory_order_relaxed);
  if (callers_core != kUnknownCore && present_core() == callers_core) leave_core(callers_core);
  do {
    seen = number_of(gate);
    if ((gate & kClosed) != 0) return false;
  } while (!gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acq_rel));
  return true;
}

// The last one to leave a closed job tells who closed it.
void ThreadTeam::leave() {
  const std::uint32_t gate = gate_.fetch_sub(1, std::memory_order_acq_rel) - 1;
  if ((gate & kClosed) == 0 || (gate & kInside) != 0) return;
  finished_.store(number_of(gate), std::memory_order_release);
  finished_.notify_one();
}

// Returns the value for which condition(value) holds.
template <class Condition>
std::uint32_t ThreadTeam::wait_until(const std::atomic<std::uint32_t>& value,
                                     Condition condition) const {
  std::uint32_t now = value.load(std::memory_order_acquire);
  const auto look = [&] { return condition(now = value.load(std::memory_order_acquire)); };
  if (spin_ > std::chrono::nanoseconds::zero()) {
    const auto end = std::chrono::steady_clock::now() + spin_;
    do {
      for (int i = 0; i < kPausesPerLook; ++i) {
        if (look()) return now;
        pause_thread();
      }
    } while (std::chrono::steady_clock::now() < end);
  }
  for (int i = 0; i < kYields; ++i) {
    if (look()) return now;
    std::this_thread::yield();
  }
  while (!look()) value.wait(now, std::memory_order_acquire);
  return now;
}

}  // namespace moesim
