// Threads that stay, for work of some ten microseconds that whoever is awake shares.
//
// A job is open while its caller works on it: threads that are awake join; those that come too
// late, or whose core runs somebody else's program, find it closed, and nobody waits for them. So
// the barrier at its end costs little on an idle machine and does not stand still on a shared one.
//
// Who waits spins for a short time, because the others are about to arrive; then it offers its core
// to whoever wants it; then it sleeps in the kernel (a futex on Linux). Where the team has more
// threads than the process may use cores there is no spinning at all. On Linux a thread that finds
// itself on the caller's core moves to another.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

namespace moesim {

class ThreadTeam {
 public:
  static constexpr std::size_t kMaxThreads = 255;

  // Starts threads - 1 threads: who calls run() works too. REQUIRES: 1 <= threads <= kMaxThreads
  // (InvariantError). std::system_error where the system gives no more threads.
  explicit ThreadTeam(std::size_t threads);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  [[nodiscard]] std::size_t size() const { return size_; }

  // Calls work() on the calling thread and, at the same time, at most once on each other thread of
  // the team; returns when all these calls have. What they wrote is visible then. Allocates
  // nothing. REQUIRES: one caller at a time; `work` does not throw and is done when any of the
  // calls have returned and all begun ones too: the calls take their shares from a RowDealer.
  template <class Work>
  void run(Work&& work) {
    auto* const address = std::addressof(work);
    run([](const void* erased) { (**static_cast<decltype(&address)>(erased))(); }, &address);
  }

 private:
  using Task = void (*)(const void*);

  void run(Task task, const void* work);
  void open(Task task, const void* work);
  void close();
  void serve();
  bool enter(std::uint32_t& seen);
  void leave();
  void stop();
  template <class Condition>
  std::uint32_t wait_until(const std::atomic<std::uint32_t>& value, Condition condition) const;

  std::chrono::nanoseconds spin_;
  std::size_t size_;

  // The present job: its number, whether it is closed, and how many of the threads are at it.
  // On a cache line of its own, as the next one, because they change hands between cores.
  alignas(64) std::atomic<std::uint32_t> gate_;
  alignas(64) std::atomic<std::uint32_t> finished_{
      0};                            // Number of the last job that was waited for.
  alignas(64) Task task_ = nullptr;  // Null: the threads end.
  const void* work_ = nullptr;
  std::atomic<int> callers_core_{-1};  // Where run() was called.
  std::vector<std::thread> workers_;
};

// Deals the rows [0, rows) out in ranges to whoever asks next, so that a slow thread gets fewer.
class RowDealer {
 public:
  struct Range {
    std::size_t first = 0;
    std::size_t last = 0;
    [[nodiscard]] bool empty() const { return first == last; }
  };

  // REQUIRES: at_once >= 1.
  RowDealer(std::size_t rows, std::size_t at_once) : rows_(rows), at_once_(at_once) {}

  // The next range; empty when all are dealt out.
  Range next() {
    const std::size_t first = next_.fetch_add(at_once_, std::memory_order_relaxed);
    if (first >= rows_) return {};
    return {first, first + at_once_ < rows_ ? first + at_once_ : rows_};
  }

 private:
  std::size_t rows_;
  std::size_t at_once_;
  std::atomic<std::size_t> next_{0};
};

}  // namespace moesim
