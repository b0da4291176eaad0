// The tiers of a run: those of the device, with what the configuration changes about them.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cache/eviction/eviction_policy.h"
#include "cache/tiered_store.h"
#include "config/section.h"
#include "hardware/device.h"

namespace moesim {

struct TierConfig {
  std::string name;
  std::string pointer;                 // of its section in the configuration
  std::optional<double> capacity_mib;  // none: holds every expert
  std::optional<Section> eviction;     // where it has a capacity
  bool starts_full = false;            // else empty
};

// Reads `tiers` of a configuration, {name: {capacity_mib, eviction, initial}}, and writes what is
// in force to `resolved`, which stays as it is where the device has none. Throws UserError, also
// where there is nothing that the key could be about.
std::vector<TierConfig> read_tier_configs(Section& root, const std::optional<Device>& device,
                                          Json& resolved);

// `shown`: how messages call the configuration. `context`: for the eviction policies, which cannot
// look ahead. Throws UserError for a capacity below one expert, a start that does not fit, and such
// a policy.
std::unique_ptr<TieredStore> make_tiered_store(const std::vector<TierConfig>& tiers,
                                               const std::string& shown,
                                               const std::vector<std::uint64_t>& expert_bytes,
                                               EvictionContext context);

// Lines for the warnings about tiers that hold no more than what is in front of them.
std::vector<std::string> tier_warnings(const std::vector<TierConfig>& tiers,
                                       std::uint64_t cache_bytes);

}  // namespace moesim
