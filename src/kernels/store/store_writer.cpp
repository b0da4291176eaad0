// Writes a store beside its place and moves it there when all of it is on the disk.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <system_error>
#include <utility>

#include "core/errors.h"
#include "core/rng.h"
#include "core/units.h"
#include "kernels/store/expert_store.h"
#include "kernels/store/random_weights.h"
#include "kernels/store/store_file.h"
#include "kernels/store/store_header.h"

namespace moesim {
namespace {

namespace fs = std::filesystem;

// The system starts to write at these intervals, so that the end need not wait for all of it and
// the file never fills the memory.
constexpr std::uint64_t kFlushBytes = std::uint64_t{32} << 20;

UserError cannot_write(const fs::path& path, int error, std::uint64_t needed) {
  return user_error(path.string(),
                    fmt::format("an expert store of {:.1f} MiB cannot be written: {}",
                                to_mib(needed), std::generic_category().message(error)));
}

// Where the file goes, links followed. UserError where something else is there.
fs::path place_of(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (fs::exists(status) && !fs::is_regular_file(status)) {
    throw user_error(path.string(), "expected a place for an expert store, got no regular file");
  }
  if (!fs::is_symlink(fs::symlink_status(path, error))) return path;
  return fs::weakly_canonical(path, error);
}

void require_space(const fs::path& place, std::uint64_t needed) {
  std::error_code error;
  const fs::path parent = place.has_parent_path() ? place.parent_path() : fs::path(".");
  const fs::space_info space = fs::space(parent, error);
  if (error) throw cannot_write(place, error.value(), needed);
  if (space.available >= needed) return;
  throw user_error(place.string(),
                   fmt::format("expected {:.1f} MiB to be free on the disk, got {:.1f} MiB",
                               to_mib(needed), to_mib(space.available)));
}

// The file under its preliminary name, which is removed unless commit() has been called.
class StagedStore {
 public:
  StagedStore(fs::path place, std::uint64_t bytes)
      : place_(std::move(place)), temporary_(place_), bytes_(bytes) {
    temporary_ += ".tmp" + std::to_string(getpid());
    constexpr int kFlags = O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC;
    file_ = FileDescriptor(open(temporary_.c_str(), kFlags, 0644));
    if (file_.get() < 0) {
      throw cannot_write(place_, errno, bytes_);
    }
  }
  ~StagedStore() {
    std::error_code ignored;
    if (!temporary_.empty()) fs::remove(temporary_, ignored);
  }
  StagedStore(const StagedStore&) = delete;
  StagedStore& operator=(const StagedStore&) = delete;

  // Takes the space at once, in one piece where the file system can, and refuses now what would
  // fail later. Some file systems cannot do it; writing shows then.
  void reserve() {
#ifdef __linux__
    int answer = -1;
    do {
      answer = fallocate(file_.get(), 0, 0, static_cast<off_t>(bytes_));
    } while (answer != 0 && errno == EINTR);
    if (answer != 0 && errno != EOPNOTSUPP && errno != ENOSYS) {
      throw cannot_write(place_, errno, bytes_);
    }
#endif
  }

  void write(std::uint64_t offset, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t written =
          pwrite(file_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) throw cannot_write(place_, written < 0 ? errno : ENOSPC, bytes_);
      bytes = bytes.subspan(static_cast<std::size_t>(written));
      offset += static_cast<std::uint64_t>(written);
    }
#ifdef __linux__
    if (offset >= flushed_ + kFlushBytes) {
      sync_file_range(file_.get(), static_cast<off_t>(flushed_),
                      static_cast<off_t>(offset - flushed_), SYNC_FILE_RANGE_WRITE);
      flushed_ = offset;
    }
#endif
  }

  // All on the disk and none in the page cache, where reads would find it; then in its place.
  void commit() {
    if (fsync(file_.get()) != 0) throw cannot_write(place_, errno, bytes_);
#ifdef POSIX_FADV_DONTNEED
    posix_fadvise(file_.get(), 0, 0, POSIX_FADV_DONTNEED);
#endif
    std::error_code error;
    fs::rename(temporary_, place_, error);
    if (error) throw cannot_write(place_, error.value(), bytes_);
    temporary_.clear();
  }

 private:
  fs::path place_;
  fs::path temporary_;  // empty: nothing to clean up
  std::uint64_t bytes_;
  std::uint64_t flushed_ = 0;
  FileDescriptor file_;
};

// record: [record_bytes], zero between the slices.
void fill_record(const StoreShape& shape, const RecordLayout& layout, std::size_t layer,
                 std::size_t expert, std::span<std::byte> record) {
  Rng rng = Rng::for_component(shape.seed, fmt::format("layer {} expert {}", layer, expert));
  const auto fill = [&](std::size_t rows, std::size_t columns, Slice slice) {
    fill_random_weights(shape.format, rows, columns, rng, record.data() + layout.offset(slice));
  };
  fill(shape.intermediate, shape.hidden, Slice::kGate);
  fill(shape.intermediate, shape.hidden, Slice::kUp);
  fill(shape.hidden, shape.intermediate, Slice::kDown);
}

}  // namespace

void write_expert_store(const fs::path& path, const StoreShape& shape,
                        const std::function<void(std::uint64_t, std::uint64_t)>& progress) {
  const RecordLayout layout(shape);
  const std::uint64_t all = store_bytes(shape);
  const fs::path place = place_of(path);
  require_space(place, all);
  StagedStore file(place, all);
  file.reserve();

  std::uint64_t written = header_bytes(shape);
  std::vector<std::uint64_t> checksums;
  checksums.reserve(shape.layers * shape.experts);
  std::vector<std::byte> record(layout.record_bytes());
  for (std::size_t layer = 0; layer < shape.layers; ++layer) {
    for (std::size_t expert = 0; expert < shape.experts; ++expert) {
      fill_record(shape, layout, layer, expert, record);
      checksums.push_back(xxh3(record));
      file.write(written, record);
      written += record.size();
      if (progress) progress(written, all);
    }
  }
  file.write(0, encode_header(shape, checksums));
  file.commit();
}

}  // namespace moesim
