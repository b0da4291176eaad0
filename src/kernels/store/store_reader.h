// Real reads of a file, several at once: by blocking lanes, each a thread that holds one read, or
// by one thread that queues commands (io_uring). Whoever reads gives the place where the bytes
// belong; a direct read lands there without a copy.
//
// A read that comes back short goes on where it ended; one that fails is tried again, and when it
// has failed too often the reader reports it. Nothing is reported as done that has not all arrived.
// A reader belongs to one thread. uring_support() and direct_support() say what a system lacks.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace moesim {

// kDirect: past the page cache (O_DIRECT). kBuffered: through it.
enum class ReadAccess : std::uint8_t { kDirect, kBuffered };

// REQUIRES: bytes > 0; with kDirect, offset, bytes and target are multiples of kStorePage.
struct StoreRead {
  std::uint64_t offset = 0;
  std::size_t bytes = 0;
  std::byte* target = nullptr;
  std::uint32_t tag = 0;  // the caller's
};

class StoreReader {
 public:
  StoreReader() = default;
  // Waits for reads that are under way; those that have not begun are dropped.
  virtual ~StoreReader() = default;
  StoreReader(const StoreReader&) = delete;
  StoreReader& operator=(const StoreReader&) = delete;

  // Takes a read; those that find no lane free begin later, in this order.
  virtual void submit(const StoreRead& read) = 0;
  // The tag of a read that is done and was not reported yet, the one that ended first; nullopt
  // where there is none now. UserError (file, offset, reason) where a read has failed for good;
  // what its target holds is then undefined.
  virtual std::optional<std::uint32_t> poll() = 0;
  // The same, but waits. REQUIRES: outstanding() > 0.
  virtual std::uint32_t wait() = 0;
  // Reads submitted and not reported yet.
  [[nodiscard]] virtual std::size_t outstanding() const = 0;
  // Summed over the reads that were reported: the time for which they held a lane, or a place in
  // the queue of commands.
  [[nodiscard]] virtual std::chrono::nanoseconds lane_time() const = 0;
};

// What the system answers to a read, as a test may have it: called with every answer of a system
// call, bytes or a negative errno, from any lane at any time; returns what the reader is to see, at
// most as many bytes.
using ReadFault = std::function<long(std::uint64_t offset, std::size_t bytes, long answer)>;

struct ReaderOptions {
  ReadAccess access = ReadAccess::kDirect;
  unsigned attempts = 3;  // in all, of a read that fails
  // For so long wait() looks before it sleeps: for a thread with a core of its own, which is then
  // not woken up read by read. Lanes only.
  std::chrono::microseconds spin{0};
  ReadFault fault{};  // empty: none
};

// Whether this program and this system can read by io_uring; if not, why.
struct ReadSupport {
  bool available = false;
  std::string reason;  // Empty where available.
};
ReadSupport uring_support();
// Whether the file system of `path` (an existing file) takes direct reads; if not, why.
ReadSupport direct_support(const std::filesystem::path& path);

// UserError where the file cannot be opened so. REQUIRES: lanes > 0.
std::unique_ptr<StoreReader> make_lane_reader(const std::filesystem::path& path, std::size_t lanes,
                                              ReaderOptions options = {});
// `depth`: commands under way at once. UserError also where uring_support() says no.
std::unique_ptr<StoreReader> make_uring_reader(const std::filesystem::path& path, std::size_t depth,
                                               ReaderOptions options = {});

}  // namespace moesim
