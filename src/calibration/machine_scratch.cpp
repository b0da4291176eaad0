#include "calibration/machine_scratch.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string>

#include "core/errors.h"
#include "core/rng.h"
#include "kernels/store/page_memory.h"

namespace moesim {
namespace {

constexpr std::uint64_t kWriteBytes = std::uint64_t{4} << 20;
constexpr double kGiB = 1024.0 * 1024 * 1024;
#ifdef O_DIRECT
constexpr int kDirectFlag = O_DIRECT;
#else
constexpr int kDirectFlag = 0;
#endif

// Closes what a fill has opened.
struct OpenFile {
  int file = -1;
  explicit OpenFile(int opened) : file(opened) {}
  ~OpenFile() {
    if (file >= 0) close(file);
  }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
};

UserError failed(const std::filesystem::path& folder, int error) {
  if (error == ENOSPC || error == EDQUOT) {
    return user_error(folder.string(),
                      "the disk is full: the scratch file could not be written whole; "
                      "--max-disk-gib makes it smaller");
  }
  return user_error(folder.string(), fmt::format("the scratch file could not be written ({})",
                                                 std::strerror(error)));
}

// Without a name where the file system can do that, else with one for a moment.
int open_unnamed(const std::filesystem::path& folder) {
#ifdef O_TMPFILE
  const int unnamed = open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (unnamed >= 0) return unnamed;
#endif
  std::string name = (folder / ".moesim-scratch-XXXXXX").string();
  const int file = mkstemp(name.data());
  if (file >= 0) unlink(name.c_str());
  return file;
}

}  // namespace

std::uint64_t free_bytes_for_scratch(const std::filesystem::path& folder) {
  std::error_code error;
  if (!std::filesystem::exists(folder, error)) {
    throw user_error(folder.string(), "no such folder for the scratch file");
  }
  if (!std::filesystem::is_directory(folder, error)) {
    throw user_error(folder.string(), "expected a folder for the scratch file, got a file");
  }
  if (access(folder.c_str(), W_OK | X_OK) != 0) {
    throw user_error(folder.string(), "nothing may be written to this folder; --dir names another");
  }
  struct statvfs about {};
  if (statvfs(folder.c_str(), &about) != 0) throw failed(folder, errno);
  return static_cast<std::uint64_t>(about.f_bavail) * about.f_frsize;
}

void require_space(const std::filesystem::path& folder, std::uint64_t free, std::uint64_t wanted) {
  constexpr std::uint64_t kMargin = std::uint64_t{64} << 20;
  if (free >= wanted + kMargin) return;
  throw user_error(
      folder.string(),
      fmt::format("expected {:.2f} GiB to be free for the scratch file, got {:.2f} "
                  "GiB; --max-disk-gib makes it smaller",
                  static_cast<double>(wanted + kMargin) / kGiB, static_cast<double>(free) / kGiB));
}

void require_direct(const std::filesystem::path& folder, const ReadSupport& support) {
  if (support.available) return;
  throw user_error(folder.string(),
                   fmt::format("the file system takes no direct reads, O_DIRECT ({}); --dir names "
                               "another folder, --buffered reads through the page cache instead",
                               support.reason));
}

ScratchFile::ScratchFile(const std::filesystem::path& folder)
    : folder_(folder), file_(open_unnamed(folder)) {
  if (file_ < 0) throw failed(folder, errno);
  try {
    const std::array<std::byte, kScratchPage> page{};
    write_at(file_, page.data(), page.size(), 0);
  } catch (...) {
    close(file_);
    throw;
  }
  size_ = kScratchPage;
}

ScratchFile::~ScratchFile() { close(file_); }

std::filesystem::path ScratchFile::path() const { return fmt::format("/proc/self/fd/{}", file_); }

void ScratchFile::write_at(int file, const std::byte* data, std::uint64_t bytes,
                           std::uint64_t offset) const {
  while (bytes > 0) {
    const ssize_t written = pwrite(file, data, bytes, static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) throw failed(folder_, written < 0 ? errno : ENOSPC);
    data += written;
    offset += static_cast<std::uint64_t>(written);
    bytes -= static_cast<std::uint64_t>(written);
  }
}

void ScratchFile::fill(std::uint64_t bytes, std::uint64_t least, bool direct,
                       const std::function<bool()>& enough) {
  const OpenFile writer(open(path().c_str(), O_WRONLY | O_CLOEXEC | (direct ? kDirectFlag : 0)));
  if (writer.file < 0) throw failed(folder_, errno);
  PageMemory block(kWriteBytes);
  Rng rng = Rng::for_component(1, "scratch file");
  std::uint64_t at = 0;
  const std::uint64_t whole = bytes / kScratchPage * kScratchPage;
  while (at < whole && (at < least || !enough())) {
    const std::uint64_t part = std::min(kWriteBytes, whole - at);
    for (std::uint64_t i = 0; i < part; i += sizeof(std::uint64_t)) {
      const std::uint64_t word = rng.next();
      std::memcpy(block.data() + i, &word, sizeof(word));
    }
    write_at(writer.file, block.data(), part, at);
    at += part;
  }
  if (fsync(writer.file) != 0) throw failed(folder_, errno);
  size_ = at;
  drop_cache();
}

void ScratchFile::drop_cache() const {
#ifdef POSIX_FADV_DONTNEED
  posix_fadvise(file_, 0, 0, POSIX_FADV_DONTNEED);
#endif
}

}  // namespace moesim
