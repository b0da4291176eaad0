#include "kernels/store/mapped_store.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <system_error>

#include "core/errors.h"

namespace moesim {
namespace {

std::size_t system_page() { return static_cast<std::size_t>(sysconf(_SC_PAGESIZE)); }

}  // namespace

MappedStore::MappedStore(const std::filesystem::path& path)
    : file_(open_for_reading(path, ReadAccess::kBuffered)) {
  struct stat status {};
  if (fstat(file_.get(), &status) != 0 || status.st_size == 0) {
    throw user_error(path.string(), "expected a file with content, got an empty one");
  }
  size_ = static_cast<std::size_t>(status.st_size);
  void* const mapping = mmap(nullptr, size_, PROT_READ, MAP_SHARED, file_.get(), 0);
  if (mapping == MAP_FAILED) {
    throw user_error(path.string(), "cannot be mapped: " + std::generic_category().message(errno));
  }
  data_ = static_cast<std::byte*>(mapping);
}

MappedStore::~MappedStore() { munmap(data_, size_); }

std::span<const std::byte> MappedStore::bytes(std::uint64_t offset, std::size_t count) const {
  if (offset > size_ || count > size_ - offset) {
    throw InvariantError("a mapped store was asked for bytes behind its end");
  }
  return {data_ + offset, count};
}

std::size_t MappedStore::fault_in(std::uint64_t offset, std::size_t count, ThreadTeam& team) const {
  const std::span<const std::byte> range = bytes(offset, count);
  if (range.empty()) return 0;
  const std::size_t page = system_page();
  const std::size_t before = offset % page;  // in the first page, in front of the range
  const std::size_t pages = (before + count + page - 1) / page;
  // A page is touched at its first byte that is within the range.
  const auto touch = [&](std::size_t index) {
    const std::size_t at = index == 0 ? 0 : index * page - before;
    static_cast<void>(*static_cast<const volatile std::byte*>(&range[at]));
  };
  RowDealer parts(team.size(), 1);
  team.run([&] {
    for (auto part = parts.next(); !part.empty(); part = parts.next()) {
      const std::size_t last = pages * part.last / team.size();
      for (std::size_t i = pages * part.first / team.size(); i < last; ++i) touch(i);
    }
  });
  return pages;
}

void MappedStore::drop(std::uint64_t offset, std::size_t count) {
  static_cast<void>(bytes(offset, count));
  const std::size_t page = system_page();
  const std::uint64_t first = (offset + page - 1) / page * page;
  // The page at the end of the file is whole, as far as the file goes.
  const std::uint64_t end = offset + count;
  const std::uint64_t last = end == size_ ? (end + page - 1) / page * page : end / page * page;
  if (first >= last) return;
  // In this order: what is mapped stays in the page cache.
  madvise(data_ + first, last - first, MADV_DONTNEED);
#ifdef POSIX_FADV_DONTNEED
  posix_fadvise(file_.get(), static_cast<off_t>(first), static_cast<off_t>(last - first),
                POSIX_FADV_DONTNEED);
#endif
}

std::uint64_t major_faults() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::uint64_t>(usage.ru_majflt);
}

}  // namespace moesim
