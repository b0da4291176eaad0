// Ranks victims. The cache alone owns residency and capacity; a policy is told what happened and
// is asked who should leave, so a faulty policy is caught there and cannot corrupt the cache.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "config/registry.h"
#include "core/ids.h"

namespace moesim {

class FutureAccesses;

// What the factory of a policy receives beside its parameters.
struct EvictionContext {
  RoutingShape shape;
  std::size_t partitions = 1;  // caches: one per layer, or one for all
  bool equal_sizes = true;     // the experts of each partition weigh the same
  std::uint64_t seed = 1;
  const FutureAccesses* future = nullptr;  // set where the run has one (see looks_ahead)
  // Of each partition, in the unit of expert_size: what policies with targets divide.
  std::uint64_t capacity = 0;
  // [layers * experts], read by the constructor only; empty: 1 each.
  std::span<const std::uint64_t> expert_size = {};
  std::size_t slots = 0;  // experts of mean size that one cache holds; 0 where unknown
  std::size_t k = 0;      // experts of a visit; 0 where unknown
};

enum class EventKind : std::uint8_t {
  kAtOnce,       // all experts are used at one time
  kOneByOne,     // the experts of the visit are used one after the other (Accounting::kAccess)
  kSpeculative,  // no use at all: a read ahead of demand begins or arrives
};

// One layer visit as the cache sees it. Its members are the experts that the visit uses. A
// speculative event belongs to the layer of the expert that is read; number, token and members are
// those of the last visit of its partition (number 0 and no members where there was none).
class CacheEvent {
 public:
  CacheEvent(std::uint32_t number, std::uint32_t token, LayerId layer, std::size_t partition,
             std::span<const std::uint32_t> stamps, EventKind kind = EventKind::kAtOnce,
             std::span<const ExpertId> members = {})
      : stamps_(stamps),
        members_(members),
        number_(number),
        token_(token),
        partition_(partition),
        layer_(layer),
        kind_(kind) {}

  [[nodiscard]] std::uint32_t number() const { return number_; }  // counts events from 0
  [[nodiscard]] std::uint32_t token() const { return token_; }
  [[nodiscard]] LayerId layer() const { return layer_; }
  [[nodiscard]] std::size_t partition() const { return partition_; }
  [[nodiscard]] EventKind kind() const { return kind_; }
  // The experts of this event as the cache was given them: best first, or in touch order after a
  // union. Valid during begin_event(); empty for a speculative event.
  [[nodiscard]] std::span<const ExpertId> members() const { return members_; }
  // True for the experts of this event.
  [[nodiscard]] bool is_member(ExpertKey key) const { return stamps_[index(key)] == number_ + 1; }

 private:
  std::span<const std::uint32_t> stamps_;  // [keys], 1 + number of the last event that used it
  std::span<const ExpertId> members_;
  std::uint32_t number_;
  std::uint32_t token_;
  std::size_t partition_;
  LayerId layer_;
  EventKind kind_;
};

// When the cache makes room.
enum class Insertion : std::uint8_t {
  kAfterEvent,  // all experts of the event enter, then victims leave until the rest fits
  kOneByOne,    // before each entering expert a victim leaves; the entering one always stays
};

// Calls come in this order for each event: begin_event; then on_hit or on_insert for each expert in
// touch order; victim and on_evict as capacity demands (between the inserts with kOneByOne). A
// resident that makes room for another expert of its own event before its turn enters again then.
// before_insert comes before room is made for one expert: with kOneByOne before its on_insert, and
// where a speculative read begins (its on_insert comes when it arrives, if ever).
// Experts in flight are unknown to the policy, so that it never names one: a speculative read asks
// for victims when it begins, and enters with on_insert and an event of kind kSpeculative when it
// arrives, or with on_insert in the visit that demands it before.
class EvictionPolicy {
 public:
  using Context = EvictionContext;
  virtual ~EvictionPolicy() = default;

  virtual void begin_event(const CacheEvent& /*event*/) {}
  virtual void before_insert(ExpertKey /*key*/, const CacheEvent& /*event*/) {}
  // With Accounting::kAccess `event` spans all accesses of the visit.
  virtual void on_hit(ExpertKey key, const CacheEvent& event) = 0;
  virtual void on_insert(ExpertKey key, const CacheEvent& event) = 0;
  virtual void on_evict(ExpertKey key) = 0;
  // The resident of `event.partition()` that should leave next, or nullopt when only members of
  // the event are left. Must skip members where `spare_members`. Must not allocate.
  virtual std::optional<ExpertKey> victim(const CacheEvent& event, bool spare_members) = 0;
  // Whether a speculative read of `key`, which needs room, is worth the victim that this policy
  // would name for it. Must not allocate.
  [[nodiscard]] virtual bool makes_room_for(ExpertKey /*key*/, const CacheEvent& /*event*/) {
    return true;
  }
  // The last visit has computed this expert of its own. True: from now on it may be a victim of
  // speculative reads, although the visit is the last one; members of a visit else may not.
  virtual bool on_computed(ExpertKey /*key*/) { return false; }
  // Bigger = evicted sooner; comparable between residents of one partition at one time.
  [[nodiscard]] virtual double score(ExpertKey key) const = 0;

  [[nodiscard]] virtual Insertion insertion() const { return Insertion::kAfterEvent; }
  // True when members of the current event are never victims of this policy.
  [[nodiscard]] virtual bool protects_event() const { return false; }
  // True when the policy needs the future (EvictionContext::future must be set).
  [[nodiscard]] virtual bool looks_ahead() const { return false; }
  // A line for the result's warnings about what this policy means here; "" for none.
  [[nodiscard]] virtual std::string caveat() const { return ""; }
  // Forgets residency-related state; all residents have been evicted before with on_evict.
  virtual void reset() {}
};

}  // namespace moesim
