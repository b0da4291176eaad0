// Lanes: threads that take a read each and block in pread until it is there.
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "core/errors.h"
#include "kernels/pause.h"
#include "kernels/store/fifo.h"
#include "kernels/store/read_progress.h"
#include "kernels/store/store_file.h"
#include "kernels/store/store_reader.h"

namespace moesim {
namespace {

class LaneReader final : public StoreReader {
 public:
  LaneReader(const std::filesystem::path& path, std::size_t lanes, ReaderOptions options)
      : path_(path), options_(std::move(options)), file_(open_for_reading(path, options_.access)) {
    if (lanes == 0) throw InvariantError("a reader without lanes was asked for");
    try {
      lanes_.reserve(lanes);
      while (lanes_.size() < lanes) lanes_.emplace_back([this] { serve(); });
    } catch (const std::system_error& error) {
      stop();
      throw user_error("lanes", "expected " + std::to_string(lanes) + " threads, got " +
                                    std::to_string(lanes_.size()) + ": " + error.what());
    } catch (...) {
      stop();
      throw;
    }
  }
  ~LaneReader() override { stop(); }
  LaneReader(const LaneReader&) = delete;
  LaneReader& operator=(const LaneReader&) = delete;

  void submit(const StoreRead& read) override {
    require_read(read, options_.access);
    bool wakes = false;
    {
      const std::lock_guard lock(mutex_);
      waiting_.push(read);
      wakes = calls_a_lane();
    }
    ++outstanding_;
    if (wakes) has_read_.notify_one();
  }

  std::optional<std::uint32_t> poll() override {
    std::unique_lock lock(mutex_);
    if (ended_.empty()) return std::nullopt;
    return report(lock);
  }

  std::uint32_t wait() override {
    if (outstanding_ == 0) throw InvariantError("nothing was submitted that could be waited for");
    look();
    std::unique_lock lock(mutex_);
    has_ended_.wait(lock, [this] { return !ended_.empty(); });
    return report(lock);
  }

  [[nodiscard]] std::size_t outstanding() const override { return outstanding_; }
  [[nodiscard]] std::chrono::nanoseconds lane_time() const override { return lane_time_; }

 private:
  std::uint32_t report(std::unique_lock<std::mutex>& lock) {
    const EndedRead ended = ended_.pop();
    unreported_.fetch_sub(1, std::memory_order_relaxed);
    lock.unlock();
    --outstanding_;
    lane_time_ += ended.held;
    return ended.report();
  }

  // Whether a sleeping lane is to be woken for a read that waits. One at a time: it wakes the next,
  // so that who submits several reads pays for one. REQUIRES: the lock.
  bool calls_a_lane() {
    if (is_called_ || sleeping_ == 0 || waiting_.empty()) return false;
    is_called_ = true;
    return true;
  }

  // A lane. It is told about the next read and tells about the last one in one critical section.
  void serve() {
    std::unique_lock lock(mutex_);
    for (;;) {
      while (!stopping_ && waiting_.empty()) {
        ++sleeping_;
        has_read_.wait(lock);
        --sleeping_;
        is_called_ = false;
      }
      if (stopping_) return;
      const StoreRead read = waiting_.pop();
      const bool wakes = calls_a_lane();
      lock.unlock();
      if (wakes) has_read_.notify_one();
      const auto start = std::chrono::steady_clock::now();
      EndedRead ended = perform(read);
      ended.held = std::chrono::steady_clock::now() - start;
      lock.lock();
      ended_.push(std::move(ended));
      unreported_.fetch_add(1, std::memory_order_release);
      has_ended_.notify_one();
    }
  }

  // Until a read has ended or the time is over.
  void look() const {
    if (options_.spin.count() == 0) return;
    const auto end = std::chrono::steady_clock::now() + options_.spin;
    while (unreported_.load(std::memory_order_acquire) == 0) {
      if (std::chrono::steady_clock::now() >= end) return;
      pause_thread();
    }
  }

  EndedRead perform(const StoreRead& read) const {
    ReadProgress progress(read, options_.access);
    for (;;) {
      const ReadProgress::Piece piece = progress.next();
      const ssize_t bytes =
          pread(file_.get(), piece.target, piece.bytes, static_cast<off_t>(piece.offset));
      const auto state = progress.take(bytes < 0 ? -long{errno} : long{bytes}, options_);
      if (state == ReadProgress::State::kDone) return {read.tag, {}, {}};
      if (state == ReadProgress::State::kFailed) return {read.tag, progress.failure(path_), {}};
    }
  }

  void stop() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    has_read_.notify_all();
    for (std::thread& lane : lanes_) lane.join();
  }

  std::filesystem::path path_;
  ReaderOptions options_;
  FileDescriptor file_;
  std::size_t outstanding_ = 0;  // of the owner's thread alone, as the next
  std::chrono::nanoseconds lane_time_{0};

  std::mutex mutex_;
  std::condition_variable has_read_;
  std::condition_variable has_ended_;
  Fifo<StoreRead> waiting_;
  Fifo<EndedRead> ended_;
  std::size_t sleeping_ = 0;  // lanes
  bool is_called_ = false;    // a lane has been woken and has not come yet
  bool stopping_ = false;
  std::atomic<std::size_t> unreported_{0};  // in ended_, for who does not hold the lock

  std::vector<std::thread> lanes_;
};

}  // namespace

std::unique_ptr<StoreReader> make_lane_reader(const std::filesystem::path& path, std::size_t lanes,
                                              ReaderOptions options) {
  return std::make_unique<LaneReader>(path, lanes, std::move(options));
}

}  // namespace moesim
