// What the tiers behind the expert cache hold. Tiers are counted from that cache on, which is 0; a
// request goes to tier 1, what is absent there to tier 2, and so on. What is found behind is read
// into every tier on its way (inclusive filling); what leaves a tier stays where else it is, for
// weights are never written back. Knows no clock, as the cache does not.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "cache/cache_accounting.h"
#include "cache/expert_cache.h"

namespace moesim {

class TieredStore {
 public:
  // One cache per tier, nearest first; null for one that holds every expert, which must be the
  // last. Where there is no such tier, flash behind the last one holds everything.
  // `expert_bytes`: [layers * experts].
  TieredStore(RoutingShape shape, const std::vector<std::uint64_t>& expert_bytes,
              std::vector<std::unique_ptr<ExpertCache>> tiers);

  // All experts of a layer that the cache lacks, as one event: best first, or (`is_union`) in touch
  // order, as for the cache. Returns the number of the tier that each is found in, in that order;
  // the number behind the last tier is flash. Valid until the next call. Does not allocate.
  std::span<const std::uint8_t> request(std::uint32_t token, LayerId layer,
                                        std::span<const ExpertId> experts, bool is_union);
  // Lets the tier hold every expert from the start. REQUIRES: it has the capacity; no requests yet.
  void fill(std::size_t tier);

  [[nodiscard]] std::size_t tiers() const { return tiers_.size(); }
  // `tier` from 1. An access is a request; demand_bytes are those read from the tier behind.
  [[nodiscard]] const CacheCounts& counts(std::size_t tier) const {
    return tiers_[tier - 1].accounting.counts();
  }
  // Null for a tier that holds every expert.
  [[nodiscard]] const ExpertCache* cache(std::size_t tier) const {
    return tiers_[tier - 1].cache.get();
  }

 private:
  struct Tier {
    std::unique_ptr<ExpertCache> cache;
    CacheAccounting accounting;
  };

  EventOutcome visit(Tier& tier, std::uint32_t token, LayerId layer, bool is_union);

  std::size_t experts_;  // of a layer
  std::vector<Tier> tiers_;
  std::vector<std::uint8_t> found_;    // per expert of the request
  std::vector<std::uint32_t> places_;  // of the experts still looked for, in the request
  std::vector<ExpertId> wanted_;       // those experts
  std::vector<Access> all_hits_;       // what a tier that holds everything answers
};

}  // namespace moesim
