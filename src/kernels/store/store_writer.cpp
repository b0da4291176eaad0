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
#include "kernels/store/page_memory.h"
#include "kernels/store/random_weights.h"
#include "kernels/store/store_file.h"
#include "kernels/store/store_header.h"

namespace moesim {
namespace {

namespace fs = std::filesystem;

// Written at once: long enough for a device's full rate.
constexpr std::size_t kWriteBytes = std::size_t{8} << 20;

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
    file_ = open_here(kDirectFlag);
    if (file_.get() < 0 && errno == EINVAL) file_ = open_here(0);
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

  // REQUIRES: whole pages from memory that begins with one. Direct writes are up to five times
  // faster than those through the page cache, and leave nothing in it that reads would find.
  void write(std::uint64_t offset, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t written =
          pwrite(file_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
      if (written < 0 && (errno == EINTR || (errno == EINVAL && leave_direct()))) continue;
      if (written <= 0) throw cannot_write(place_, written < 0 ? errno : ENOSPC, bytes_);
      bytes = bytes.subspan(static_cast<std::size_t>(written));
      offset += static_cast<std::uint64_t>(written);
    }
  }

  // All to the disk and none in the page cache, then to its place.
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
#ifdef O_DIRECT
  static constexpr int kDirectFlag = O_DIRECT;
#else
  static constexpr int kDirectFlag = 0;
#endif

  [[nodiscard]] FileDescriptor open_here(int more_flags) const {
    constexpr int kFlags = O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC;
    return FileDescriptor(open(temporary_.c_str(), kFlags | more_flags, 0644));
  }

  // Whether writes were direct and now go through the page cache: some file systems find out late
  // that they have no direct ones, and after a short write the rest is no whole pages.
  bool leave_direct() {
    const int flags = fcntl(file_.get(), F_GETFL);
    if (flags < 0 || (flags & kDirectFlag) == 0) return false;
    return fcntl(file_.get(), F_SETFL, flags & ~kDirectFlag) == 0;
  }

  fs::path place_;
  fs::path temporary_;  // empty: nothing to clean up
  std::uint64_t bytes_;
  FileDescriptor file_;
};

// record: [record_bytes], zero between the slices.
void fill_record(const StoreShape& shape, const RecordLayout& layout, std::size_t index,
                 std::span<std::byte> record) {
  Rng rng = Rng::for_component(
      shape.seed, fmt::format("layer {} expert {}", index / shape.experts, index % shape.experts));
  const auto fill = [&](std::size_t rows, std::size_t columns, Slice slice) {
    fill_random_weights(shape.format, rows, columns, rng, record.data() + layout.offset(slice));
  };
  fill(shape.intermediate, shape.hidden, Slice::kGate);
  fill(shape.intermediate, shape.hidden, Slice::kUp);
  fill(shape.hidden, shape.intermediate, Slice::kDown);
}

// Writes all records; returns their checksums, [layers * experts].
std::vector<std::uint64_t> write_records(
    StagedStore& file, const StoreShape& shape,
    const std::function<void(std::uint64_t, std::uint64_t)>& progress) {
  const RecordLayout layout(shape);
  const std::size_t records = shape.layers * shape.experts;
  const std::size_t record_bytes = layout.record_bytes();
  const std::size_t at_once =
      std::min(records, std::max<std::size_t>(1, kWriteBytes / record_bytes));
  const PageMemory memory(at_once * record_bytes);
  std::vector<std::uint64_t> checksums;
  checksums.reserve(records);
  std::uint64_t written = header_bytes(shape);
  for (std::size_t first = 0; first < records; first += at_once) {
    const std::size_t count = std::min(at_once, records - first);
    for (std::size_t i = 0; i < count; ++i) {
      const auto record = memory.bytes().subspan(i * record_bytes, record_bytes);
      fill_record(shape, layout, first + i, record);
      checksums.push_back(xxh3(record));
    }
    file.write(written, memory.bytes().first(count * record_bytes));
    written += count * record_bytes;
    if (progress) progress(written, store_bytes(shape));
  }
  return checksums;
}

}  // namespace

void write_expert_store(const fs::path& path, const StoreShape& shape,
                        const std::function<void(std::uint64_t, std::uint64_t)>& progress) {
  const std::uint64_t all = store_bytes(shape);
  const fs::path place = place_of(path);
  require_space(place, all);
  StagedStore file(place, all);
  file.reserve();
  const std::vector<std::byte> header = encode_header(shape, write_records(file, shape, progress));
  const PageMemory memory(header.size());
  std::copy(header.begin(), header.end(), memory.data());
  file.write(0, memory.bytes());
  file.commit();
}

}  // namespace moesim
