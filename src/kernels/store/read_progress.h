// A read on its way: what is to be asked of the system next, and what its answer means. All readers
// share these rules.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>

#include "kernels/store/store_reader.h"

namespace moesim {

// InvariantError where the read is not as StoreRead requires.
void require_read(const StoreRead& read, ReadAccess access);

class ReadProgress {
 public:
  enum class State : std::uint8_t { kUnderWay, kDone, kFailed };

  // What to ask for: the rest, at most 1 GiB (the system takes just below 2 at once). A direct read
  // goes on from the beginning of the page that it ended in.
  struct Piece {
    std::uint64_t offset = 0;
    std::size_t bytes = 0;
    std::byte* target = nullptr;
  };

  ReadProgress() = default;
  ReadProgress(const StoreRead& read, ReadAccess access) : read_(read), access_(access) {}

  [[nodiscard]] Piece next() const;
  // Takes the system's answer to next(): bytes or a negative errno. An answer that brings nothing
  // new, an error among them, is a failed attempt; other errors than EINTR, EAGAIN and EIO are
  // final.
  State take(long answer, const ReaderOptions& options);

  [[nodiscard]] std::uint32_t tag() const { return read_.tag; }
  // One line: file, offset, expected, got, reason. REQUIRES: take() has returned kFailed.
  [[nodiscard]] std::string failure(const std::filesystem::path& path) const;

 private:
  [[nodiscard]] std::size_t begin() const;

  StoreRead read_{};
  ReadAccess access_ = ReadAccess::kBuffered;
  std::size_t done_ = 0;  // bytes that have arrived, from the beginning without a gap
  unsigned failures_ = 0;
  int error_ = 0;  // of the last failed attempt; 0: nothing came
};

// A read that has ended. `failure` is empty where it is done.
struct EndedRead {
  std::uint32_t tag = 0;
  std::string failure;

  // The tag. UserError where it has failed.
  [[nodiscard]] std::uint32_t report() const;
};

}  // namespace moesim
