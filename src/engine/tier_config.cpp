#include "engine/tier_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "cache/future_accesses.h"
#include "core/units.h"

namespace moesim {
namespace {

// A tier that holds everything has nothing to choose; a configuration may say so again.
Json read_store(const TierSpec& spec, Section* section) {
  if (section != nullptr) {
    section->accept("capacity_mib");
    if (section->has("capacity_mib")) {
      throw section->error("capacity_mib", "expected null, because the device's " + spec.name +
                                               " holds every expert and nothing is behind it");
    }
  }
  return {{"capacity_mib", nullptr}};
}

// `place`: of the tier in the device, for what is wrong there.
TierConfig read_tier(const TierSpec& spec, Section* section, const Section& root,
                     const std::string& place, Json& resolved) {
  TierConfig tier;
  tier.name = spec.name;
  tier.pointer = "/tiers/" + spec.name;
  if (!spec.capacity_mib) {
    resolved = read_store(spec, section);
    return tier;
  }
  tier.capacity_mib = spec.capacity_mib;
  std::string initial = "empty";
  Section eviction(*spec.eviction, root.file(), place + "/eviction");
  if (section != nullptr) {
    tier.capacity_mib = section->number_or("capacity_mib", *spec.capacity_mib, {0.0, 1e12, true});
    initial = section->choice_or("initial", initial, {"empty", "all"});
    if (auto given = section->optional_object("eviction")) eviction = *given;
  }
  tier.starts_full = initial == "all";
  Json policy = Registry<EvictionPolicy>::instance().resolve(eviction);
  resolved = {{"capacity_mib", *tier.capacity_mib}, {"eviction", policy}, {"initial", initial}};
  tier.eviction.emplace(std::move(policy), root.file(), eviction.pointer());
  return tier;
}

UserError tier_error(const TierConfig& tier, const std::string& shown, const char* key,
                     const std::string& message) {
  return user_error(shown + ": " + tier.pointer + key, message);
}

std::unique_ptr<EvictionPolicy> make_policy(const TierConfig& tier, EvictionContext context) {
  const Registry<EvictionPolicy>& registry = Registry<EvictionPolicy>::instance();
  FutureAccesses nothing(context.shape.layers * context.shape.experts);
  nothing.finish();
  context.future = &nothing;
  if (registry.make(*tier.eviction, context)->looks_ahead()) {
    throw tier.eviction->error("policy",
                               fmt::format("expected a policy that does not look ahead, got {}: "
                                           "what a tier is asked for is known only after the run",
                                           tier.eviction->json().at("policy").get<std::string>()));
  }
  context.future = nullptr;
  return registry.make(*tier.eviction, context);
}

// One cache for all layers, in bytes.
std::unique_ptr<ExpertCache> make_cache(const TierConfig& tier, const std::string& shown,
                                        const std::vector<std::uint64_t>& expert_bytes,
                                        const EvictionContext& context) {
  CacheOptions options;
  options.shape = context.shape;
  options.scope = CacheScope::kGlobal;
  options.capacity = static_cast<std::uint64_t>(*tier.capacity_mib * static_cast<double>(kMiB));
  options.expert_size = expert_bytes;
  const std::uint64_t largest = *std::max_element(expert_bytes.begin(), expert_bytes.end());
  if (options.capacity < largest) {
    throw tier_error(tier, shown, "/capacity_mib",
                     fmt::format("expected room for at least one expert, {:.3f} MiB, got {} MiB",
                                 to_mib(largest), *tier.capacity_mib));
  }
  const std::uint64_t all =
      std::accumulate(expert_bytes.begin(), expert_bytes.end(), std::uint64_t{0});
  if (tier.starts_full && options.capacity < all) {
    throw tier_error(tier, shown, "/initial",
                     fmt::format("expected empty, because {} MiB do not hold all experts, {:.3f} "
                                 "MiB",
                                 *tier.capacity_mib, to_mib(all)));
  }
  return std::make_unique<ExpertCache>(std::move(options), make_policy(tier, context));
}

}  // namespace

std::vector<TierConfig> read_tier_configs(Section& root, const std::optional<Device>& device,
                                          Json& resolved) {
  std::vector<TierConfig> tiers;
  auto given = root.optional_object("tiers");
  if (!device || device->tiers.empty()) {
    if (!given) return tiers;
    throw root.error("tiers",
                     device ? "expected none, because the device " + device->name + " has no tiers"
                            : "expected none, because there is no device");
  }
  tiers.reserve(device->tiers.size());
  Json all = Json::object();
  for (const TierSpec& spec : device->tiers) {
    std::optional<Section> section;
    if (given) section = given->optional_object(spec.name);
    tiers.push_back(read_tier(spec, section ? &*section : nullptr, root,
                              fmt::format("/device/tiers/{}", tiers.size()), all[spec.name]));
  }
  resolved["tiers"] = std::move(all);
  return tiers;
}

std::unique_ptr<TieredStore> make_tiered_store(const std::vector<TierConfig>& tiers,
                                               const std::string& shown,
                                               const std::vector<std::uint64_t>& expert_bytes,
                                               EvictionContext context) {
  if (tiers.empty()) return nullptr;
  context.partitions = 1;
  context.equal_sizes = std::all_of(expert_bytes.begin(), expert_bytes.end(),
                                    [&](auto bytes) { return bytes == expert_bytes.front(); });
  std::vector<std::unique_ptr<ExpertCache>> caches;
  caches.reserve(tiers.size());
  for (const TierConfig& tier : tiers) {
    caches.push_back(tier.capacity_mib ? make_cache(tier, shown, expert_bytes, context) : nullptr);
  }
  auto store = std::make_unique<TieredStore>(context.shape, expert_bytes, std::move(caches));
  for (std::size_t i = 0; i < tiers.size(); ++i) {
    if (tiers[i].starts_full) store->fill(i + 1);
  }
  return store;
}

std::vector<std::string> tier_warnings(const std::vector<TierConfig>& tiers,
                                       std::uint64_t cache_bytes) {
  std::vector<std::string> warnings;
  double in_front = to_mib(cache_bytes);
  for (const TierConfig& tier : tiers) {
    if (!tier.capacity_mib) break;
    if (*tier.capacity_mib <= in_front) {
      warnings.push_back(
          fmt::format("the tier {} holds {:.0f} MiB, no more than what is in front of it, {:.0f} "
                      "MiB: what is read passes through every tier, so it repeats that",
                      tier.name, *tier.capacity_mib, in_front));
    }
    in_front = *tier.capacity_mib;
  }
  return warnings;
}

}  // namespace moesim
