#include "cache/residency_view.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "cache/eviction/eviction_policy.h"
#include "core/errors.h"

namespace moesim {

std::uint64_t ResidencyView::resident_word(std::size_t base) const {
  static_assert(static_cast<int>(Residency::kResident) == 2 && sizeof(Residency) == 1);
  const std::size_t end = std::min<std::size_t>(64, states_.size() - base);
  std::uint64_t word = 0;
  std::size_t i = 0;
  for (; i + 8 <= end; i += 8) {
    std::uint64_t eight = 0;
    std::memcpy(&eight, &states_[base + i], sizeof(eight));
    const std::uint64_t resident = (eight >> 1U) & 0x0101010101010101U;
    // The product moves the bit of byte j to place 56 + j; on a big-endian machine bytes come in
    // the other order.
    const std::uint64_t ordered =
        std::endian::native == std::endian::little ? resident : __builtin_bswap64(resident);
    word |= ((ordered * 0x0102040810204080U) >> 56U) << i;
  }
  for (; i < end; ++i) {
    word |= static_cast<std::uint64_t>(states_[base + i] == Residency::kResident) << i;
  }
  return word;
}

double ResidencyView::eviction_score(ExpertId expert) const {
  if (policy_ == nullptr) throw InvariantError("this view of residency has no eviction policy");
  return policy_->score(expert_key(layer_, expert, keys_per_layer_));
}

}  // namespace moesim
