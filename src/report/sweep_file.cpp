#include "report/sweep_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "core/errors.h"

namespace moesim {

void SweepFile::fail(const std::string& what) const {
  throw user_error(path_.string(), what + ": " + std::strerror(errno));
}

SweepFile::SweepFile(const std::filesystem::path& path, bool resume) : path_(path) {
  const int how = O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | (resume ? 0 : O_EXCL);
  file_ = ::open(path_.c_str(), how, 0666);
  if (file_ < 0 && errno == EEXIST) {
    throw user_error(path_.string(),
                     "expected a new file, got one that exists (--resume goes on with it)");
  }
  if (file_ < 0) fail("cannot be written");
  try {
    struct stat status {};
    if (::fstat(file_, &status) != 0) fail("cannot be read");
    if (!S_ISREG(status.st_mode)) throw user_error(path_.string(), "expected a regular file");
    if (::flock(file_, LOCK_EX | LOCK_NB) != 0) {
      throw user_error(path_.string(), "another sweep is writing it");
    }
    read_lines();
  } catch (...) {
    ::close(file_);
    throw;
  }
}

SweepFile::~SweepFile() { ::close(file_); }

void SweepFile::read_lines() {
  std::string line;
  std::array<char, 1 << 16> buffer{};
  for (;;) {
    const ssize_t got = ::read(file_, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail("cannot be read");
    if (got == 0) {
      rest_ = std::move(line);
      return;
    }
    std::string_view rest(buffer.data(), static_cast<std::size_t>(got));
    for (auto end = rest.find('\n'); end != std::string_view::npos; end = rest.find('\n')) {
      line += rest.substr(0, end);
      whole_ += line.size() + 1;
      found_.push_back(std::move(line));
      line.clear();
      rest.remove_prefix(end + 1);
    }
    line += rest;
  }
}

// What a killed sweep leaves begins as every line does; anything else is somebody else's.
void SweepFile::require_cut_line() const {
  constexpr std::string_view kBegin = R"({"schema":"moesim.result/1")";
  const std::size_t length = std::min(rest_.size(), kBegin.size());
  if (rest_.compare(0, length, kBegin.substr(0, length)) == 0) return;
  throw user_error(path_.string(), "expected the lines of a sweep, got something else at its end");
}

void SweepFile::cut() {
  require_cut_line();
  rest_.clear();
  shorten();
}

void SweepFile::shorten() {
  if (::ftruncate(file_, static_cast<off_t>(whole_)) != 0) fail("cannot be written");
}

void SweepFile::append(const std::string& line) {
  const std::string text = line + "\n";
  const std::scoped_lock lock(mutex_);
  std::size_t written = 0;
  while (written < text.size()) {
    const ssize_t wrote = ::write(file_, text.data() + written, text.size() - written);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) {
      const int why = errno;
      shorten();
      errno = why;
      fail("cannot be written");
    }
    written += static_cast<std::size_t>(wrote);
  }
  whole_ += text.size();
}

}  // namespace moesim
