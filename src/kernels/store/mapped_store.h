// A store file as memory: experts are read by the page faults of whoever touches them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

#include "kernels/store/store_file.h"
#include "kernels/thread_team.h"

namespace moesim {

class MappedStore {
 public:
  // UserError where the file cannot be mapped.
  explicit MappedStore(const std::filesystem::path& path);
  ~MappedStore();
  MappedStore(const MappedStore&) = delete;
  MappedStore& operator=(const MappedStore&) = delete;

  // REQUIRES: within the file.
  [[nodiscard]] std::span<const std::byte> bytes(std::uint64_t offset, std::size_t count) const;
  // Touches every page of it; the threads share the range, each a contiguous part. Returns the
  // number of touched pages.
  std::size_t fault_in(std::uint64_t offset, std::size_t count, ThreadTeam& team) const;
  // Takes the range out of the mapping and of the page cache, so that the next touch reads the
  // device. Pages that only in part lie in it stay.
  void drop(std::uint64_t offset, std::size_t count);

 private:
  FileDescriptor file_;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

// Major page faults of this process so far, all threads (getrusage).
std::uint64_t major_faults();

}  // namespace moesim
