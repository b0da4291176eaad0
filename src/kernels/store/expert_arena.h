// Slots of committed memory that experts are read into, each as large as a record and page-aligned,
// so that a read lands where the kernels use it. It says where bytes are, not who deserves a place:
// that is the cache's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "core/ids.h"
#include "kernels/store/page_memory.h"

namespace moesim {

class ExpertArena {
 public:
  // REQUIRES: all > 0; slot_bytes a multiple of kStorePage. `keys`: experts of all layers.
  ExpertArena(std::size_t slots, std::size_t slot_bytes, std::size_t keys);

  [[nodiscard]] std::size_t slots() const { return slots_; }
  [[nodiscard]] std::size_t free_slots() const { return free_.size(); }
  // The slot that this expert has; null where it has none.
  [[nodiscard]] std::byte* find(ExpertKey key) const;
  // Gives the expert a slot: the one freed last, because it may still be in the CPU's caches.
  // InvariantError where it has one or none is free.
  std::byte* place(ExpertKey key);
  // Takes its slot from it. InvariantError where it has none.
  void release(ExpertKey key);

 private:
  std::size_t slots_;
  std::size_t slot_bytes_;
  PageMemory memory_;
  std::vector<std::uint32_t> slot_of_;  // [keys], or no slot
  std::vector<std::uint32_t> free_;
};

}  // namespace moesim
