// What a routing policy may see of one layer's experts. Read-only by construction.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/ids.h"

namespace moesim {

class EvictionPolicy;

enum class Residency : std::uint8_t { kAbsent, kInFlight, kResident };

class ResidencyView {
 public:
  // `states`: [experts] of the layer; `policy` may be null where eviction scores are not asked for.
  // `keys_per_layer`: where the cache holds more items of a layer than its experts; 0: as many.
  ResidencyView(LayerId layer, std::span<const Residency> states, const EvictionPolicy* policy,
                std::size_t keys_per_layer = 0)
      : states_(states),
        policy_(policy),
        keys_per_layer_(keys_per_layer == 0 ? states.size() : keys_per_layer),
        layer_(layer) {}

  [[nodiscard]] LayerId layer() const { return layer_; }
  [[nodiscard]] std::span<const Residency> states() const { return states_; }
  [[nodiscard]] bool resident(ExpertId expert) const {
    return states_[index(expert)] == Residency::kResident;
  }
  // Which of the 64 experts from `base` on are resident: bit i is base + i.
  [[nodiscard]] std::uint64_t resident_word(std::size_t base) const;
  // Under way from flash: a router must not count on it yet.
  [[nodiscard]] bool in_flight(ExpertId expert) const {
    return states_[index(expert)] == Residency::kInFlight;
  }
  // Bigger = evicted sooner, on the eviction policy's own scale. REQUIRES: resident(expert).
  [[nodiscard]] double eviction_score(ExpertId expert) const;

 private:
  std::span<const Residency> states_;
  const EvictionPolicy* policy_;
  std::size_t keys_per_layer_;
  LayerId layer_;
};

}  // namespace moesim
