// What lies behind the expert cache: tiers of memory, each with a capacity and a link towards the
// cache, nearest first. Behind the last of them is flash, unless that tier holds every expert.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "config/section.h"

namespace moesim {

struct FlashSpec;

// More than any machine has; tiers are counted in a byte.
inline constexpr std::size_t kMostTiers = 8;

// Towards the cache. One transfer at a time, in order of arrival, demand before speculation.
struct LinkSpec {
  double gbps = 0;
  double latency_us = 0;  // per transfer, beside its bytes
  double j_per_gb = 0;
};

struct TierSpec {
  std::string name;
  std::optional<double> capacity_mib;  // none: holds every expert; only the last tier may
  LinkSpec link;
  std::optional<Json> eviction;  // a policy section, checked by whoever knows the policies
};

// Reads `tiers` of a device file; none where it has no such key. `with_energy`: each link must say
// what it takes. Throws UserError with file and pointer.
std::vector<TierSpec> read_tiers(Section& device, bool with_energy);

// The link as the queue that reads of flash go through: one lane, no host delay, and its latency
// as the device time of a read.
FlashSpec link_queue(const LinkSpec& link);

}  // namespace moesim
