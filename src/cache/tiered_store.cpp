#include "cache/tiered_store.h"

#include <utility>

#include "core/errors.h"

namespace moesim {

TieredStore::TieredStore(RoutingShape shape, const std::vector<std::uint64_t>& expert_bytes,
                         std::vector<std::unique_ptr<ExpertCache>> tiers)
    : experts_(shape.experts) {
  tiers_.reserve(tiers.size());
  for (std::size_t i = 0; i < tiers.size(); ++i) {
    if (tiers[i] == nullptr && i + 1 < tiers.size()) {
      throw InvariantError("only the last tier may hold every expert");
    }
    tiers_.push_back({std::move(tiers[i]), CacheAccounting(shape, expert_bytes)});
  }
  found_.reserve(experts_);
  places_.reserve(experts_);
  wanted_.reserve(experts_);
  all_hits_.reserve(experts_);
}

EventOutcome TieredStore::visit(Tier& tier, std::uint32_t token, LayerId layer, bool is_union) {
  if (tier.cache == nullptr) {
    all_hits_.clear();
    for (const ExpertId expert : wanted_) {
      all_hits_.push_back({expert, AccessKind::kHit, false, 0});
    }
    return {0, all_hits_, {}, false};
  }
  return is_union ? tier.cache->visit_union(token, layer, wanted_)
                  : tier.cache->visit(token, layer, wanted_);
}

std::span<const std::uint8_t> TieredStore::request(std::uint32_t token, LayerId layer,
                                                   std::span<const ExpertId> experts,
                                                   bool is_union) {
  found_.assign(experts.size(), static_cast<std::uint8_t>(tiers_.size() + 1));
  wanted_.assign(experts.begin(), experts.end());
  places_.clear();
  for (std::size_t i = 0; i < experts.size(); ++i) {
    places_.push_back(static_cast<std::uint32_t>(i));
  }
  for (std::size_t i = 0; i < tiers_.size() && !wanted_.empty(); ++i) {
    const EventOutcome outcome = visit(tiers_[i], token, layer, is_union);
    tiers_[i].accounting.count(token, layer, outcome);
    std::size_t left = 0;
    for (std::size_t j = 0; j < outcome.accesses.size(); ++j) {
      if (outcome.accesses[j].kind == AccessKind::kHit) {
        found_[places_[j]] = static_cast<std::uint8_t>(i + 1);
        continue;
      }
      places_[left] = places_[j];
      wanted_[left++] = outcome.accesses[j].expert;
    }
    places_.resize(left);
    wanted_.resize(left);
  }
  return found_;
}

void TieredStore::fill(std::size_t tier) {
  ExpertCache& cache = *tiers_[tier - 1].cache;
  wanted_.clear();
  for (std::size_t expert = 0; expert < experts_; ++expert) {
    wanted_.push_back(static_cast<ExpertId>(expert));
  }
  for (std::size_t layer = 0; layer < cache.options().shape.layers; ++layer) {
    cache.visit_union(0, static_cast<LayerId>(layer), wanted_);
  }
}

}  // namespace moesim
