#include "kernels/store/store_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef __linux__
#include <linux/magic.h>
#include <sys/vfs.h>
#endif

#include <array>
#include <cerrno>
#include <string>
#include <system_error>

#include "core/errors.h"
#include "kernels/store/expert_store.h"

namespace moesim {
namespace {

// Why this open file cannot be read past the page cache; empty where it can.
#ifdef O_DIRECT
std::string direct_obstacle(int file) {
#ifdef __linux__
  struct statfs system {};
  if (fstatfs(file, &system) == 0 &&
      (system.f_type == TMPFS_MAGIC || system.f_type == RAMFS_MAGIC)) {
    // Some kernels take the flag here, and then copy out of memory all the same.
    return "its file system is in memory (tmpfs), so there is no device to read from";
  }
#endif
  alignas(kStorePage) static thread_local std::array<std::byte, kStorePage> page;
  ssize_t answer = -1;
  for (int attempt = 0; attempt < 3 && answer < 0; ++attempt) {
    answer = pread(file, page.data(), page.size(), 0);
    if (answer < 0 && errno == EINVAL) return "its file system takes no direct reads (O_DIRECT)";
  }
  return answer < 0 ? "cannot be read: " + std::generic_category().message(errno) : "";
}
#endif

struct Opened {
  FileDescriptor file;
  std::string obstacle;  // Empty where it is open.
};

Opened open_direct(const std::filesystem::path& path) {
#ifdef O_DIRECT
  FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECT));
  if (file.get() < 0) {
    return {FileDescriptor(), errno == EINVAL ? "its file system takes no direct reads (O_DIRECT)"
                                              : std::generic_category().message(errno)};
  }
  std::string obstacle = direct_obstacle(file.get());
  return {std::move(file), std::move(obstacle)};
#else
  static_cast<void>(path);
  return {FileDescriptor(), "this system has no direct reads (O_DIRECT)"};
#endif
}

}  // namespace

FileDescriptor::~FileDescriptor() {
  if (number_ >= 0) close(number_);
}

FileDescriptor open_for_reading(const std::filesystem::path& path, ReadAccess access) {
  FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) {
    throw user_error(path.string(), "cannot be read: " + std::generic_category().message(errno));
  }
  struct stat status {};
  if (fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode)) {
    throw user_error(path.string(), "expected a regular file");
  }
  if (access == ReadAccess::kBuffered) return file;
  Opened direct = open_direct(path);
  if (!direct.obstacle.empty()) {
    throw user_error(path.string(),
                     "expected a file that can be read directly: " + direct.obstacle);
  }
  return std::move(direct.file);
}

ReadSupport direct_support(const std::filesystem::path& path) {
  const Opened direct = open_direct(path);
  if (direct.obstacle.empty()) return {true, ""};
  return {false, path.string() + ": " + direct.obstacle};
}

}  // namespace moesim
