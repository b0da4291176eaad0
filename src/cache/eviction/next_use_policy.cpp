#include "cache/eviction/next_use_policy.h"

#include <algorithm>

#include "core/errors.h"

namespace moesim {

bool NextUsePolicy::Farthest::operator()(const NextUseOf& a, const NextUseOf& b) const {
  const std::uint64_t rank_a = std::uint64_t{a.next} << 32 | a.place;
  const std::uint64_t rank_b = std::uint64_t{b.next} << 32 | b.place;
  return rank_a != rank_b ? rank_a > rank_b : a.key > b.key;
}

NextUsePolicy::NextUsePolicy(const EvictionContext& context)
    : future_(context.future),
      residents_(context.shape, context.partitions),
      equal_sizes_(context.equal_sizes) {
  if (future_ != nullptr) next_use_.emplace(*future_);
}

void NextUsePolicy::begin_event(const CacheEvent& event) {
  if (future_ == nullptr || event.number() >= future_->events()) {
    throw InvariantError("an offline eviction policy needs the accesses of the whole run");
  }
  residents_.begin_event();
  one_by_one_ = event.kind() == EventKind::kOneByOne;
  if (one_by_one_) return;  // members that are still to come are used in this very event
  for (const ExpertKey key : future_->event(event.number())) {
    next_use_->advance(key, event.number());
    if (residents_.contains(key)) rank(key);
  }
}

std::string NextUsePolicy::caveat() const {
  return equal_sizes_ ? "" : "farthest next use is a heuristic where experts differ in size";
}

void NextUsePolicy::use(ExpertKey key, const CacheEvent& event) {
  if (future_ == nullptr) {
    throw InvariantError("an offline eviction policy needs the accesses of the whole run");
  }
  if (event.kind() != EventKind::kSpeculative) next_use_->advance(key, event.number());
  rank(key);
}

void NextUsePolicy::rank(ExpertKey key) {
  const std::uint32_t next = next_use_->of(key);
  std::uint32_t place = 0;
  if (one_by_one_ && next != FutureAccesses::kNever) {
    const auto members = future_->event(next);
    place = static_cast<std::uint32_t>(std::find(members.begin(), members.end(), key) -
                                       members.begin());
  }
  residents_.set(key, {next, place, key});
}

}  // namespace moesim
