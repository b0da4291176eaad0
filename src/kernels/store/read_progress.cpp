#include "kernels/store/read_progress.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "core/errors.h"
#include "kernels/store/expert_store.h"

namespace moesim {
namespace {

constexpr std::size_t kLargestPiece = std::size_t{1} << 30;

bool is_worth_another_attempt(int error) {
  return error == 0 || error == EINTR || error == EAGAIN || error == EIO;
}

}  // namespace

void require_read(const StoreRead& read, ReadAccess access) {
  if (read.bytes == 0 || read.target == nullptr) {
    throw InvariantError("a read of no bytes or to nowhere was submitted");
  }
  if (access == ReadAccess::kBuffered) return;
  const auto address = reinterpret_cast<std::uintptr_t>(read.target);
  if ((read.offset | read.bytes | address) % kStorePage != 0) {
    throw InvariantError("a direct read was submitted that is not of whole pages");
  }
}

std::size_t ReadProgress::begin() const {
  return access_ == ReadAccess::kDirect ? done_ - done_ % kStorePage : done_;
}

ReadProgress::Piece ReadProgress::next() const {
  const std::size_t first = begin();
  return {read_.offset + first, std::min(read_.bytes - first, kLargestPiece), read_.target + first};
}

ReadProgress::State ReadProgress::take(long answer, const ReaderOptions& options) {
  if (options.fault) {
    const Piece piece = next();
    answer = std::min(answer, options.fault(piece.offset, piece.bytes, answer));
  }
  if (answer > 0) {
    const std::size_t reached = begin() + static_cast<std::size_t>(answer);
    if (reached > done_) {
      done_ = reached;
      return done_ >= read_.bytes ? State::kDone : State::kUnderWay;
    }
  }
  ++failures_;
  error_ = answer < 0 ? static_cast<int>(-answer) : 0;
  const bool again = is_worth_another_attempt(error_) && failures_ < options.attempts;
  return again ? State::kUnderWay : State::kFailed;
}

std::string ReadProgress::failure(const std::filesystem::path& path) const {
  const std::string reason =
      error_ == 0 ? "the file ends there" : std::generic_category().message(error_);
  return user_error(path.string(),
                    fmt::format("byte {}: expected {} bytes, got {}: {} (attempt {})", read_.offset,
                                read_.bytes, done_, reason, failures_))
      .what();
}

std::uint32_t EndedRead::report() const {
  if (!failure.empty()) throw UserError(failure);
  return tag;
}

}  // namespace moesim
