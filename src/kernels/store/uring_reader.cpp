// Reads that one thread queues at the kernel (io_uring). A read that finds the queue full begins
// when the owner next asks for what has ended.
#include "kernels/store/store_reader.h"

#ifdef MOESIM_HAS_URING

#include <liburing.h>

#include <cerrno>
#include <system_error>
#include <thread>
#include <vector>

#include "core/errors.h"
#include "kernels/store/fifo.h"
#include "kernels/store/read_progress.h"
#include "kernels/store/store_file.h"

namespace moesim {
namespace {

std::string init_obstacle(int error) {
  const std::string reason =
      std::generic_category().message(error) + " (errno " + std::to_string(error) + ")";
  return "the system refuses io_uring: " + reason;
}

class Ring {
 public:
  // UserError where the system gives none.
  explicit Ring(unsigned entries) {
    const int answer = io_uring_queue_init(entries, &ring_, 0);
    if (answer < 0) {
      throw user_error("io_uring", "expected a queue of " + std::to_string(entries) +
                                       " reads: " + init_obstacle(-answer));
    }
  }
  ~Ring() { io_uring_queue_exit(&ring_); }
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  io_uring* get() { return &ring_; }

 private:
  io_uring ring_{};
};

class UringReader final : public StoreReader {
 public:
  UringReader(const std::filesystem::path& path, std::size_t depth, ReaderOptions options)
      : path_(path),
        options_(std::move(options)),
        file_(open_for_reading(path, options_.access)),
        ring_(static_cast<unsigned>(depth)),
        flights_(depth) {
    free_.reserve(depth);
    for (std::size_t i = depth; i-- > 0;) free_.push_back(static_cast<std::uint32_t>(i));
  }

  ~UringReader() override {
    waiting_.clear();
    // An error that never passes would leave reads under way; there is none that is documented.
    while (free_.size() < flights_.size() && is_passing(enter(1))) collect();
  }
  UringReader(const UringReader&) = delete;
  UringReader& operator=(const UringReader&) = delete;

  void submit(const StoreRead& read) override {
    require_read(read, options_.access);
    ++outstanding_;
    if (free_.empty()) {
      waiting_.push(read);
      return;
    }
    begin(read);
    require_entered(enter(0));
  }

  std::optional<std::uint32_t> poll() override {
    collect();
    if (io_uring_sq_ready(ring_.get()) > 0) require_entered(enter(0));
    if (ended_.empty()) return std::nullopt;
    return report();
  }

  std::uint32_t wait() override {
    if (outstanding_ == 0) throw InvariantError("nothing was submitted that could be waited for");
    collect();
    while (ended_.empty()) {
      require_entered(enter(1));
      collect();
    }
    if (io_uring_sq_ready(ring_.get()) > 0) require_entered(enter(0));
    return report();
  }

  [[nodiscard]] std::size_t outstanding() const override { return outstanding_; }

 private:
  std::uint32_t report() {
    --outstanding_;
    return ended_.pop().report();
  }

  void begin(const StoreRead& read) {
    const std::uint32_t flight = free_.back();
    free_.pop_back();
    flights_[flight] = ReadProgress(read, options_.access);
    ask(flight);
  }

  // Puts the next piece of a read into the queue, which has a place for each flight.
  void ask(std::uint32_t flight) {
    io_uring_sqe* const entry = io_uring_get_sqe(ring_.get());
    if (entry == nullptr) throw InvariantError("the queue of reads is full");
    const ReadProgress::Piece piece = flights_[flight].next();
    io_uring_prep_read(entry, file_.get(), piece.target, static_cast<unsigned>(piece.bytes),
                       piece.offset);
    io_uring_sqe_set_data64(entry, flight);
  }

  // Takes all answers that are there.
  void collect() {
    io_uring_cqe* answer = nullptr;
    while (io_uring_peek_cqe(ring_.get(), &answer) == 0) {
      const auto flight = static_cast<std::uint32_t>(answer->user_data);
      const long bytes = answer->res;
      io_uring_cqe_seen(ring_.get(), answer);
      take(flight, bytes);
    }
  }

  void take(std::uint32_t flight, long answer) {
    ReadProgress& progress = flights_[flight];
    const ReadProgress::State state = progress.take(answer, options_);
    if (state == ReadProgress::State::kUnderWay) return ask(flight);
    const bool failed = state == ReadProgress::State::kFailed;
    ended_.push({progress.tag(), failed ? progress.failure(path_) : std::string()});
    free_.push_back(flight);
    if (!waiting_.empty()) begin(waiting_.pop());
  }

  // Gives the kernel what is queued and waits for so many answers. Returns 0 or a negative errno.
  int enter(unsigned answers) {
    const int result = io_uring_submit_and_wait(ring_.get(), answers);
    if (result >= 0) return 0;
    if (result != -EINTR) std::this_thread::yield();  // Short of memory: not at once again.
    return result;
  }

  // What could not be given stays queued, and the next call gives it.
  static bool is_passing(int result) {
    return result == 0 || result == -EINTR || result == -EAGAIN || result == -EBUSY;
  }

  void require_entered(int result) const {
    if (is_passing(result)) return;
    throw user_error(path_.string(), "io_uring fails: " + std::generic_category().message(-result));
  }

  std::filesystem::path path_;
  ReaderOptions options_;
  FileDescriptor file_;
  Ring ring_;
  std::vector<ReadProgress> flights_;  // [depth]
  std::vector<std::uint32_t> free_;    // the flights that are not under way
  Fifo<StoreRead> waiting_;
  Fifo<EndedRead> ended_;
  std::size_t outstanding_ = 0;
};

}  // namespace

ReadSupport uring_support() {
  io_uring ring{};
  const int answer = io_uring_queue_init(1, &ring, 0);
  if (answer < 0) return {false, init_obstacle(-answer)};
  io_uring_probe* const probe = io_uring_get_probe_ring(&ring);
  const bool reads = probe != nullptr && io_uring_opcode_supported(probe, IORING_OP_READ) != 0;
  if (probe != nullptr) io_uring_free_probe(probe);
  io_uring_queue_exit(&ring);
  if (!reads) return {false, "this kernel's io_uring cannot read yet (Linux 5.6 can)"};
  return {true, ""};
}

std::unique_ptr<StoreReader> make_uring_reader(const std::filesystem::path& path, std::size_t depth,
                                               ReaderOptions options) {
  if (depth == 0) throw InvariantError("a reader of depth 0 was asked for");
  const ReadSupport support = uring_support();
  if (!support.available) throw user_error("io_uring", support.reason);
  return std::make_unique<UringReader>(path, depth, std::move(options));
}

}  // namespace moesim

#else

#include "core/errors.h"

namespace moesim {

ReadSupport uring_support() {
  return {false,
          "this program was built without io_uring; install liburing (Debian: liburing-dev) and "
          "build again"};
}

std::unique_ptr<StoreReader> make_uring_reader(const std::filesystem::path&, std::size_t,
                                               ReaderOptions) {
  throw user_error("io_uring", uring_support().reason);
}

}  // namespace moesim

#endif
