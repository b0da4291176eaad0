#include "kernels/store/expert_arena.h"

#include <limits>

#include "core/errors.h"
#include "kernels/store/expert_store.h"

namespace moesim {
namespace {

constexpr std::uint32_t kNoSlot = std::numeric_limits<std::uint32_t>::max();

void require_key(bool known) {
  if (!known) throw InvariantError("an arena was asked for an expert that no layer has");
}

}  // namespace

ExpertArena::ExpertArena(std::size_t slots, std::size_t slot_bytes, std::size_t keys)
    : slots_(slots), slot_bytes_(slot_bytes), memory_(slots * slot_bytes), slot_of_(keys, kNoSlot) {
  if (slot_bytes % kStorePage != 0) throw InvariantError("a slot is not of whole pages");
  free_.reserve(slots);
  for (std::size_t i = slots; i-- > 0;) free_.push_back(static_cast<std::uint32_t>(i));
}

std::byte* ExpertArena::find(ExpertKey key) const {
  require_key(index(key) < slot_of_.size());
  const std::uint32_t slot = slot_of_[index(key)];
  return slot == kNoSlot ? nullptr : memory_.data() + slot * slot_bytes_;
}

std::byte* ExpertArena::place(ExpertKey key) {
  if (find(key) != nullptr) throw InvariantError("an expert that has a slot was given another");
  if (free_.empty()) throw InvariantError("an arena without a free slot was asked for one");
  slot_of_[index(key)] = free_.back();
  free_.pop_back();
  return find(key);
}

void ExpertArena::release(ExpertKey key) {
  if (find(key) == nullptr) throw InvariantError("an expert without a slot was to lose it");
  free_.push_back(slot_of_[index(key)]);
  slot_of_[index(key)] = kNoSlot;
}

}  // namespace moesim
