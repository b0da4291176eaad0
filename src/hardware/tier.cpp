#include "hardware/tier.h"

#include <fmt/format.h>

#include <algorithm>

#include "hardware/device.h"

namespace moesim {
namespace {

LinkSpec read_link(Section section, bool with_energy) {
  LinkSpec link;
  link.gbps = section.number("gbps", {1e-6, 1e6});
  link.latency_us = section.number_or("latency_us", link.latency_us, {0.0, 1e9});
  link.j_per_gb = with_energy ? section.number("j_per_gb", kNonNegative)
                              : section.number_or("j_per_gb", 0, kNonNegative);
  return link;
}

TierSpec read_tier(Section section, bool with_energy) {
  TierSpec tier;
  tier.name = section.string("name");
  if (tier.name.empty() || tier.name == "flash" ||
      tier.name.find_first_of("/~") != std::string::npos) {
    throw section.error("name",
                        fmt::format("expected a name without / and ~ that is not flash, got {}",
                                    Json(tier.name).dump()));
  }
  section.accept("capacity_mib");
  if (section.has("capacity_mib")) {
    tier.capacity_mib = section.number("capacity_mib", {0.0, 1e12, true});
  }
  tier.link = read_link(section.object("link"), with_energy);
  if (auto eviction = section.optional_object("eviction")) {
    tier.eviction = eviction->json();
    eviction->accept_all_keys();
  }
  section.reject_unread_keys();
  return tier;
}

// What a tier may be, given those in front of it.
void check_place(const TierSpec& tier, const Section& section, const std::vector<TierSpec>& before,
                 bool is_last) {
  const bool twice = std::any_of(before.begin(), before.end(),
                                 [&](const TierSpec& other) { return other.name == tier.name; });
  if (twice) {
    throw section.error("name", "expected a name of its own, got \"" + tier.name + "\" again");
  }
  if (!tier.capacity_mib && !is_last) {
    throw section.error("capacity_mib",
                        "expected a number, because only the last tier may hold every expert");
  }
  if (!tier.capacity_mib && tier.eviction) {
    throw section.error("eviction", "expected none, because this tier holds every expert");
  }
}

}  // namespace

std::vector<TierSpec> read_tiers(Section& device, bool with_energy) {
  std::vector<TierSpec> tiers;
  device.accept("tiers");
  if (!device.has("tiers")) return tiers;
  const Json& list = device.raw("tiers");
  if (!list.is_array() || list.empty() || list.size() > kMostTiers) {
    throw device.error("tiers",
                       fmt::format("expected an array of 1 to {} tiers, nearest first, got {}",
                                   kMostTiers, list.dump()));
  }
  tiers.reserve(list.size());
  for (std::size_t i = 0; i < list.size(); ++i) {
    const Section section(list[i], device.file(), fmt::format("{}/tiers/{}", device.pointer(), i));
    TierSpec tier = read_tier(section, with_energy);
    check_place(tier, section, tiers, i + 1 == list.size());
    if (tier.capacity_mib && !tier.eviction) tier.eviction = Json{{"policy", "lru"}};
    tiers.push_back(std::move(tier));
  }
  return tiers;
}

FlashSpec link_queue(const LinkSpec& link) {
  FlashSpec queue;
  queue.bw_gbps = link.gbps;
  queue.dev_cmd_us = link.latency_us;
  queue.qd_limit = 1;
  queue.lanes = 1;
  return queue;
}

}  // namespace moesim
