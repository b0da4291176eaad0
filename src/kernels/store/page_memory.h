// Memory that reads land in and kernels read from: whole huge pages where the system has them.
//
// A direct read into small pages is one segment of a command for each, and a device or a hypervisor
// that takes them one by one is up to three times slower for it; products lose to misses of the
// translation cache. So memory begins at a multiple of 2 MiB and asks for pages of that size.
#pragma once

#include <cstddef>
#include <span>

namespace moesim {

class PageMemory {
 public:
  static constexpr std::size_t kHugePage = std::size_t{2} << 20;

  // At least one byte; all of it is committed here, so that nothing faults later. Zero-filled.
  // UserError where the system has not as much.
  explicit PageMemory(std::size_t bytes);
  ~PageMemory();
  PageMemory(PageMemory&& other) noexcept;
  PageMemory& operator=(PageMemory&& other) noexcept;
  PageMemory(const PageMemory&) = delete;
  PageMemory& operator=(const PageMemory&) = delete;

  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] std::span<std::byte> bytes() const { return {data_, size_}; }

 private:
  void* mapping_ = nullptr;
  std::size_t mapped_ = 0;
  std::byte* data_ = nullptr;  // aligned to kHugePage within the mapping
  std::size_t size_ = 0;
};

}  // namespace moesim
