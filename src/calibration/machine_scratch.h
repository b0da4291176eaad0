// The file that a calibration reads: it has no name from the beginning, so that nothing is left of
// it however the process ends. Linux: it is read by its path below /proc.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>

#include "kernels/store/store_reader.h"

namespace moesim {

inline constexpr std::uint64_t kScratchPage = 4096;

// Bytes that are free for this user in the file system of `folder`. UserError where there is no
// such folder, it is none or nothing may be written there.
std::uint64_t free_bytes_for_scratch(const std::filesystem::path& folder);

// UserError where less than `wanted` and a margin is free.
void require_space(const std::filesystem::path& folder, std::uint64_t free, std::uint64_t wanted);

// UserError where a scratch file in `folder` takes no direct reads.
void require_direct(const std::filesystem::path& folder, const ReadSupport& support);

class ScratchFile {
 public:
  // One page long. UserError where it cannot be made.
  explicit ScratchFile(const std::filesystem::path& folder);
  ~ScratchFile();
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;

  // Opens as the file itself does. Holds as long as this object.
  [[nodiscard]] std::filesystem::path path() const;
  [[nodiscard]] std::uint64_t size() const { return size_; }

  // Writes content that cannot be compressed until the file is so long or `enough` says so, but at
  // least `least` bytes; then waits until the device has it. `direct`: past the page cache.
  // UserError where the disk is full or writing fails.
  void fill(std::uint64_t bytes, std::uint64_t least, bool direct,
            const std::function<bool()>& enough);
  // Takes it out of the page cache.
  void drop_cache() const;

 private:
  void write_at(int file, const std::byte* data, std::uint64_t bytes, std::uint64_t offset) const;

  std::filesystem::path folder_;
  int file_ = -1;
  std::uint64_t size_ = 0;
};

}  // namespace moesim
