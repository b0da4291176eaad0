#include "kernels/store/page_memory.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <cstdint>
#include <cstring>
#include <utility>

#include "core/errors.h"
#include "core/units.h"

namespace moesim {

PageMemory::PageMemory(std::size_t bytes) : size_(bytes) {
  if (bytes == 0) throw InvariantError("memory of no bytes was asked for");
  mapped_ = bytes + kHugePage;
  mapping_ = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping_ == MAP_FAILED) {
    mapping_ = nullptr;
    throw user_error("memory",
                     fmt::format("expected {:.1f} MiB to be free, got less", to_mib(bytes)));
  }
  const auto address = reinterpret_cast<std::uintptr_t>(mapping_);
  const std::uintptr_t skipped = (kHugePage - address % kHugePage) % kHugePage;
  data_ = static_cast<std::byte*>(mapping_) + skipped;
#ifdef MADV_HUGEPAGE
  madvise(data_, size_, MADV_HUGEPAGE);  // A kernel without them gives small ones.
#endif
  std::memset(data_, 0, size_);
}

PageMemory::~PageMemory() {
  if (mapping_ != nullptr) munmap(mapping_, mapped_);
}

PageMemory::PageMemory(PageMemory&& other) noexcept
    : mapping_(std::exchange(other.mapping_, nullptr)),
      mapped_(std::exchange(other.mapped_, 0)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

PageMemory& PageMemory::operator=(PageMemory&& other) noexcept {
  std::swap(mapping_, other.mapping_);
  std::swap(mapped_, other.mapped_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

}  // namespace moesim
