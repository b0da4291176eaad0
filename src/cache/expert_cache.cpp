#include "cache/expert_cache.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "core/errors.h"

namespace moesim {
namespace {

// What an access is, by the residency before it.
constexpr std::array<AccessKind, 3> kKindOf = {AccessKind::kMiss, AccessKind::kLate,
                                               AccessKind::kHit};
// The stamp of a member that has been computed: of no event, but not cold either.
constexpr std::uint32_t kGivenUp = std::numeric_limits<std::uint32_t>::max();
static_assert(static_cast<int>(Residency::kInFlight) == 1 &&
              static_cast<int>(Residency::kResident) == 2);

}  // namespace

ExpertCache::ExpertCache(CacheOptions options, std::unique_ptr<EvictionPolicy> policy)
    : options_(std::move(options)),
      policy_(std::move(policy)),
      insertion_(policy_->insertion()),
      spare_members_(options_.overflow == Overflow::kKeepEvent || policy_->protects_event()),
      states_(options_.shape.layers * options_.shape.experts, Residency::kAbsent),
      stamps_(states_.size(), 0),
      partitions_(options_.scope == CacheScope::kGlobal ? 1 : options_.shape.layers),
      keys_per_partition_(states_.size() / partitions_.size()) {
  const auto& sizes = options_.expert_size;
  if (sizes.size() != states_.size() || std::find(sizes.begin(), sizes.end(), 0) != sizes.end()) {
    throw InvariantError("a cache needs one size > 0 per expert");
  }
  accesses_.reserve(options_.shape.experts);
  // One by one, a member may leave, return and leave again.
  evicted_.reserve(keys_per_partition_ + options_.shape.experts);
  fill();
}

// Puts the initial contents in place: the best come last, as the most recent.
void ExpertCache::fill() {
  for (const ExpertKey key : options_.initial) {
    if (index(key) >= states_.size() || states_[index(key)] != Residency::kAbsent) {
      throw InvariantError("the initial contents name an expert twice or one out of range");
    }
    Partition& partition = partitions_[partition_of(layer_of(key, options_.shape.experts))];
    const std::uint64_t size = options_.expert_size[index(key)];
    if (partition.used + size > options_.capacity) continue;
    partition.used += size;
    states_[index(key)] = Residency::kResident;
  }
  for (auto key = options_.initial.rbegin(); key != options_.initial.rend(); ++key) {
    if (states_[index(*key)] == Residency::kResident) {
      policy_->on_insert(*key, speculative_event(*key));
    }
  }
}

EventOutcome ExpertCache::visit(std::uint32_t token, LayerId layer,
                                std::span<const ExpertId> best_first) {
  if (options_.accounting == Accounting::kAccess) return run_one_by_one(token, layer, best_first);
  return run_at_once(token, layer, best_first, options_.touch_order == TouchOrder::kAscending);
}

EventOutcome ExpertCache::visit_union(std::uint32_t token, LayerId layer,
                                      std::span<const ExpertId> touch_order) {
  return run_at_once(token, layer, touch_order, false);
}

EventOutcome ExpertCache::run_at_once(std::uint32_t token, LayerId layer,
                                      std::span<const ExpertId> experts,
                                      bool last_is_touched_first) {
  const CacheEvent event = begin_event(token, layer, experts, EventKind::kAtOnce);
  if (options_.capacity == 0) return {event.number(), accesses_, evicted_, true};
  policy_->begin_event(event);
  judge_cold(event, accesses_);
  const std::size_t base = index(layer) * options_.shape.experts;
  const std::size_t count = accesses_.size();
  for (std::size_t i = 0; i < count; ++i) {
    const Access& access = accesses_[last_is_touched_first ? count - 1 - i : i];
    touch(static_cast<ExpertKey>(base + index(access.expert)), access, event);
  }
  make_room(event, 0);
  trim(event, accesses_, last_is_touched_first);
  return end_event(event);
}

EventOutcome ExpertCache::run_one_by_one(std::uint32_t token, LayerId layer,
                                         std::span<const ExpertId> experts) {
  const CacheEvent event = begin_event(token, layer, experts, EventKind::kOneByOne);
  if (options_.capacity == 0) return {event.number(), accesses_, evicted_, true};
  policy_->begin_event(event);
  const std::size_t base = index(layer) * options_.shape.experts;
  for (std::size_t i = 0; i < accesses_.size(); ++i) {
    Access& access = accesses_[i];
    const auto key = static_cast<ExpertKey>(base + index(access.expert));
    // What came before in this visit may have changed the state that begin_event() saw.
    if (states_[index(key)] == Residency::kAbsent) access.kind = AccessKind::kMiss;
    access.evicted_before = static_cast<std::uint32_t>(evicted_.size());
    judge_cold(event, std::span(accesses_).subspan(i, 1));
    touch(key, access, event);
    make_room(event, 0);
    trim(event, std::span(accesses_).first(i + 1), false);
  }
  return end_event(event);
}

// Judges all experts against the state as it is and makes them the members of a new event.
CacheEvent ExpertCache::begin_event(std::uint32_t token, LayerId layer,
                                    std::span<const ExpertId> experts, EventKind kind) {
  const std::size_t per_layer = options_.shape.experts;
  if (index(layer) >= options_.shape.layers || experts.size() > per_layer) {
    throw InvariantError("a visit does not fit the shape of the cache");
  }
  evicted_.clear();
  accesses_.resize(experts.size());
  const std::uint32_t number = next_event_++;
  const std::size_t base = index(layer) * per_layer;
  for (std::size_t i = 0; i < experts.size(); ++i) {
    const std::size_t key = base + index(experts[i]);
    if (index(experts[i]) >= per_layer || stamps_[key] == number + 1) {
      throw InvariantError("a visit names an expert twice or one out of range");
    }
    const AccessKind access = kKindOf[static_cast<std::size_t>(states_[key])];
    accesses_[i] = {experts[i], access, stamps_[key] == 0, 0};
    stamps_[key] = number + 1;
  }
  const std::size_t at = partition_of(layer);
  partitions_[at].last_event = number;
  partitions_[at].last_token = token;
  return {number, token, layer, at, stamps_, kind, experts};
}

// Turns misses into hits where the cold start says so: as many as there is room for.
void ExpertCache::judge_cold(const CacheEvent& event, std::span<Access> accesses) {
  Partition& partition = partitions_[event.partition()];
  if (options_.cold_start == ColdStart::kStrict || partition.was_full) return;
  std::uint64_t used = partition.used;
  for (Access& access : accesses) {
    if (access.kind != AccessKind::kMiss) continue;
    const ExpertKey key = expert_key(event.layer(), access.expert, options_.shape.experts);
    used += options_.expert_size[index(key)];
    partition.was_full = used > options_.capacity;
    if (partition.was_full) return;
    access.kind = AccessKind::kHit;
  }
}

EventOutcome ExpertCache::end_event(const CacheEvent& event) {
  partitions_[event.partition()].members = resident_members(event);
  return {event.number(), accesses_, evicted_, false, event.kind() == EventKind::kOneByOne};
}

void ExpertCache::touch(ExpertKey key, const Access& access, const CacheEvent& event) {
  if (states_[index(key)] == Residency::kResident) {
    policy_->on_hit(key, event);
    return;
  }
  enter(key, event);
  if (access.kind == AccessKind::kHit) {
    // It made room for another expert of its own event, and nothing is read, so it never left; or
    // it counts as a hit because of the cold start.
    const auto left = std::find(evicted_.begin(), evicted_.end(), key);
    if (left != evicted_.end()) evicted_.erase(left);
  }
}

void ExpertCache::enter(ExpertKey key, const CacheEvent& event) {
  Partition& partition = partitions_[event.partition()];
  const std::uint64_t size = options_.expert_size[index(key)];
  if (states_[index(key)] == Residency::kInFlight) {
    partition.in_flight -= size;  // it has its room already
  } else {
    if (insertion_ == Insertion::kOneByOne) {
      policy_->before_insert(key, event);
      make_room(event, size);
    }
    partition.used += size;
  }
  states_[index(key)] = Residency::kResident;
  policy_->on_insert(key, event);
}

// Lets the policy's victims leave until `needed` fits, or until it has none left to name.
void ExpertCache::make_room(const CacheEvent& event, std::uint64_t needed) {
  const Partition& partition = partitions_[event.partition()];
  while (partition.used + needed > options_.capacity) {
    const std::optional<ExpertKey> victim = policy_->victim(event, spare_members_);
    if (!victim) {
      const std::uint64_t spared = spare_members_ ? resident_members(event) : 0;
      if (partition.used - partition.in_flight > spared) {
        throw InvariantError("the eviction policy names no victim although there are some");
      }
      return;
    }
    evict_victim(*victim, event, spare_members_);
  }
}

// Where the event alone exceeds the capacity, its most recently touched experts stay.
void ExpertCache::trim(const CacheEvent& event, std::span<const Access> touched,
                       bool last_is_touched_first) {
  if (options_.overflow == Overflow::kKeepEvent) return;
  Partition& partition = partitions_[event.partition()];
  for (std::size_t i = 0; partition.used > options_.capacity && i < touched.size(); ++i) {
    const Access& access = touched[last_is_touched_first ? touched.size() - 1 - i : i];
    const ExpertKey key = expert_key(event.layer(), access.expert, options_.shape.experts);
    if (states_[index(key)] == Residency::kResident) evict(key, partition);
  }
}

void ExpertCache::evict_victim(ExpertKey key, const CacheEvent& event, bool spare_members) {
  if (index(key) >= states_.size() || states_[index(key)] != Residency::kResident) {
    throw InvariantError("the eviction policy names an expert that is not resident");
  }
  // Wraps around to a large number below the partition.
  if (index(key) - event.partition() * keys_per_partition_ >= keys_per_partition_) {
    throw InvariantError("the eviction policy names an expert of another cache");
  }
  if (spare_members && event.is_member(key)) {
    throw InvariantError("the eviction policy names an expert of the event that it must spare");
  }
  evict(key, partitions_[event.partition()]);
}

void ExpertCache::evict(ExpertKey key, Partition& partition) {
  states_[index(key)] = Residency::kAbsent;
  partition.used -= options_.expert_size[index(key)];
  evicted_.push_back(key);
  policy_->on_evict(key);
}

std::uint64_t ExpertCache::resident_members(const CacheEvent& event) const {
  const std::size_t base = index(event.layer()) * options_.shape.experts;
  std::uint64_t size = 0;
  for (const Access& access : accesses_) {
    const std::size_t key = base + index(access.expert);
    size += states_[key] == Residency::kResident ? options_.expert_size[key] : 0;
  }
  return size;
}

bool ExpertCache::begin_read(ExpertKey key, std::span<const ExpertKey>& evicted) {
  evicted_.clear();
  evicted = evicted_;
  if (states_[index(key)] != Residency::kAbsent) return false;
  const CacheEvent event = speculative_event(key);
  Partition& partition = partitions_[event.partition()];
  const std::uint64_t size = options_.expert_size[index(key)];
  if (partition.in_flight + partition.members + size > options_.capacity) return false;
  if (partition.used + size > options_.capacity && !policy_->makes_room_for(key, event)) {
    return false;
  }
  policy_->before_insert(key, event);
  partition.was_full = partition.was_full || partition.used + size > options_.capacity;
  while (partition.used + size > options_.capacity) {
    const std::optional<ExpertKey> victim = policy_->victim(event, true);
    if (!victim) {
      throw InvariantError("the eviction policy names no victim although there are some");
    }
    evict_victim(*victim, event, true);
  }
  states_[index(key)] = Residency::kInFlight;
  partition.used += size;
  partition.in_flight += size;
  evicted = evicted_;
  return true;
}

bool ExpertCache::compute_done(ExpertKey key) {
  const CacheEvent event = speculative_event(key);
  const bool held = states_[index(key)] == Residency::kResident;
  if (!held || !event.is_member(key) || !policy_->on_computed(key)) return false;
  stamps_[index(key)] = kGivenUp;
  partitions_[event.partition()].members -= options_.expert_size[index(key)];
  return true;
}

void ExpertCache::finish_read(ExpertKey key) {
  if (states_[index(key)] != Residency::kInFlight) return;
  const CacheEvent event = speculative_event(key);
  Partition& partition = partitions_[event.partition()];
  const std::uint64_t size = options_.expert_size[index(key)];
  partition.in_flight -= size;
  if (event.is_member(key)) partition.members += size;
  states_[index(key)] = Residency::kResident;
  policy_->on_insert(key, event);
}

void ExpertCache::reset() {
  evicted_.clear();
  for (std::size_t key = 0; key < states_.size(); ++key) {
    if (states_[key] == Residency::kResident) policy_->on_evict(static_cast<ExpertKey>(key));
    states_[key] = Residency::kAbsent;
  }
  for (Partition& partition : partitions_) {
    partition.used = partition.in_flight = partition.members = 0;
    partition.was_full = false;
  }
  policy_->reset();
  fill();
}

ResidencyView ExpertCache::view(LayerId layer) const {
  const std::size_t experts = options_.shape.experts;
  return {layer, std::span(states_).subspan(index(layer) * experts, experts), policy_.get()};
}

ResidencyView ExpertCache::view(LayerId layer, std::size_t experts) const {
  const std::size_t items = options_.shape.experts;
  return {layer, std::span(states_).subspan(index(layer) * items, experts), policy_.get(), items};
}

CacheEvent ExpertCache::speculative_event(ExpertKey key) const {
  const LayerId layer = layer_of(key, options_.shape.experts);
  const std::size_t at = partition_of(layer);
  return {partitions_[at].last_event, partitions_[at].last_token, layer, at, stamps_,
          EventKind::kSpeculative};
}

}  // namespace moesim
