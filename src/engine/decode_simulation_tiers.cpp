// What the simulation asks the tiers behind the cache, and what it reports about them.
#include "engine/decode_simulation.h"

namespace moesim {

void DecodeSimulation::find_misses(LayerId layer, bool is_union) {
  missed_.clear();
  for (const Slot& slot : slots_) {
    if (slot.kind == AccessKind::kMiss) missed_.push_back(expert_of(slot.key, shape_.experts));
  }
  if (missed_.empty()) return;
  const auto found =
      parts_.tiers->request(parts_.session->decoded_tokens(), layer, missed_, is_union);
  std::size_t next = 0;
  for (Slot& slot : slots_) {
    if (slot.kind == AccessKind::kMiss) slot.source = found[next++];
  }
}

std::uint8_t DecodeSimulation::find_ahead(ExpertKey key) {
  if (parts_.tiers == nullptr) return 1;
  const ExpertId expert = expert_of(key, shape_.experts);
  return parts_.tiers->request(parts_.session->decoded_tokens(), layer_of(key, shape_.experts),
                               {&expert, 1}, false)[0];
}

std::span<const TierCounts> DecodeSimulation::count_tiers() {
  for (std::size_t i = 0; i < tiers_counted_.size(); ++i) {
    const TierCounts now{parts_.tiers->counts(i + 1), store_.hop_counts(i)};
    tiers_of_pass_[i] = now - tiers_counted_[i];
    tiers_counted_[i] = now;
  }
  return tiers_of_pass_;
}

}  // namespace moesim
