#include "kernels/thread_team.h"

#include "core/errors.h"

namespace moesim {
namespace {

// Longer than the threads' ends usually lie apart, shorter than a sleep and a wake-up cost.
constexpr std::chrono::microseconds kSpin{50};
constexpr int kPausesPerLook = 16;  // Between two looks at the clock.
constexpr int kYields = 4;

void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

ThreadTeam::ThreadTeam(std::size_t threads) : spin_(kSpin), size_(threads) {
  if (threads == 0) throw InvariantError("a team needs a thread");
  // The cores that this process may use, or 0 where that is unknown.
  const std::size_t cores = std::thread::hardware_concurrency();
  if (cores != 0 && threads > cores) spin_ = std::chrono::nanoseconds::zero();
  workers_.reserve(threads - 1);
  try {
    for (std::size_t index = 1; index < threads; ++index) {
      workers_.emplace_back([this, index] { serve(index); });
    }
  } catch (...) {
    stop();
    throw;
  }
}

ThreadTeam::~ThreadTeam() { stop(); }

void ThreadTeam::stop() {
  task_ = nullptr;
  job_.fetch_add(1, std::memory_order_release);
  job_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadTeam::run(Task task, const void* work) {
  if (size_ == 1) return task(work, Member(*this, 0));
  task_ = task;
  work_ = work;
  job_.fetch_add(1, std::memory_order_release);
  job_.notify_all();
  task(work, Member(*this, 0));
  arrive_and_wait();
}

void ThreadTeam::serve(std::size_t index) {
  for (std::uint32_t seen = 0;; ++seen) {
    wait_until_not(job_, seen);
    if (task_ == nullptr) return;
    task_(work_, Member(*this, index));
    arrive_and_wait();
  }
}

void ThreadTeam::arrive_and_wait() {
  const std::uint32_t present = barrier_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 < size_) {
    return wait_until_not(barrier_, present);
  }
  arrived_.store(0, std::memory_order_relaxed);
  barrier_.store(present + 1, std::memory_order_release);
  barrier_.notify_all();
}

void ThreadTeam::wait_until_not(const std::atomic<std::uint32_t>& value, std::uint32_t old) const {
  const auto changed = [&] { return value.load(std::memory_order_acquire) != old; };
  if (spin_ > std::chrono::nanoseconds::zero()) {
    const auto end = std::chrono::steady_clock::now() + spin_;
    do {
      for (int i = 0; i < kPausesPerLook; ++i) {
        if (changed()) return;
        pause();
      }
    } while (std::chrono::steady_clock::now() < end);
  }
  for (int i = 0; i < kYields; ++i) {
    if (changed()) return;
    std::this_thread::yield();
  }
  value.wait(old, std::memory_order_acquire);
}

}  // namespace moesim
