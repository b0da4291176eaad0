// Threads that stay, for work of some ten microseconds that all of them share.
//
// Who waits spins for a short time, because the others are about to arrive; then it offers its core
// to whoever wants it; then it sleeps in the kernel (a futex on Linux). So a wait costs far less
// than a wake-up while all run, and a thread whose core was taken away stops nobody from using the
// others. Where the team has more threads than cores there is no spinning at all.
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
  // One of the threads, as the work sees it.
  class Member {
   public:
    [[nodiscard]] std::size_t index() const { return index_; }
    // Returns when every member has called it. What one wrote before, all see after.
    void wait_for_all() const { team_.arrive_and_wait(); }

   private:
    friend class ThreadTeam;
    Member(ThreadTeam& team, std::size_t index) : team_(team), index_(index) {}
    ThreadTeam& team_;
    std::size_t index_;
  };

  // Starts threads - 1 threads: who calls run() is the first member. REQUIRES: threads >= 1
  // (InvariantError). std::system_error where the system gives none.
  explicit ThreadTeam(std::size_t threads);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  [[nodiscard]] std::size_t size() const { return workers_.size() + 1; }

  // Calls work(member) once on each member and returns when all calls have. Allocates nothing.
  // REQUIRES: one caller at a time; `work` does not throw, and calls wait_for_all() on every member
  // or on none.
  template <class Work>
  void run(Work&& work) {
    auto* const address = std::addressof(work);
    run([](const void* erased,
           const Member& member) { (**static_cast<decltype(&address)>(erased))(member); },
        &address);
  }

 private:
  using Task = void (*)(const void*, const Member&);

  void run(Task task, const void* work);
  void serve(std::size_t index);
  void arrive_and_wait();
  void wait_until_not(const std::atomic<std::uint32_t>& value, std::uint32_t old) const;
  void stop();

  std::chrono::nanoseconds spin_;
  std::size_t size_;

  // Each on a cache line of its own: they change hands between cores.
  alignas(64) std::atomic<std::uint32_t> job_{0};      // Counts the calls of run().
  alignas(64) std::atomic<std::uint32_t> arrived_{0};  // At the present barrier.
  alignas(64) std::atomic<std::uint32_t> barrier_{0};  // Counts the barriers that all reached.
  alignas(64) Task task_ = nullptr;                    // Null: the threads end.
  const void* work_ = nullptr;
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
