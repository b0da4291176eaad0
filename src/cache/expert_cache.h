// The experts held in DRAM. The cache alone owns residency and capacity; the eviction policy only
// ranks victims. It takes whole events and knows no clock, so that a simulated and a real decode
// loop drive the same object.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "cache/eviction/eviction_policy.h"
#include "cache/residency_view.h"
#include "core/ids.h"

namespace moesim {

enum class CacheScope : std::uint8_t { kLayer, kGlobal };
// kEvent: all experts of a visit are judged against the state before it; kAccess: one by one.
enum class Accounting : std::uint8_t { kEvent, kAccess };
// kDescending: the best expert of a visit is touched first, so it is the least recent of its visit.
enum class TouchOrder : std::uint8_t { kDescending, kAscending };
// kTrim: never more than the capacity, the most recently touched stay; kKeepEvent: the experts of
// the current event stay until the next, even above the capacity.
enum class Overflow : std::uint8_t { kTrim, kKeepEvent };

struct CacheOptions {
  RoutingShape shape;
  CacheScope scope = CacheScope::kLayer;
  // Per partition (per layer, or in all), in the unit of expert_size. 0 keeps nothing.
  std::uint64_t capacity = 0;
  // [layers * experts]: what each expert takes of the capacity: 1 each where the capacity counts
  // experts, bytes where it counts bytes.
  std::vector<std::uint64_t> expert_size;
  Accounting accounting = Accounting::kEvent;
  TouchOrder touch_order = TouchOrder::kDescending;
  Overflow overflow = Overflow::kTrim;
};

enum class AccessKind : std::uint8_t {
  kHit,
  kMiss,
  kLate,  // a miss whose read is already under way: no second read
};

struct Access {
  ExpertId expert{};
  AccessKind kind = AccessKind::kMiss;
  bool cold = false;  // the first access ever to this expert
};

// Spans are valid until the next call.
struct EventOutcome {
  std::uint32_t number = 0;            // of the event
  std::span<const Access> accesses;    // in the order given
  std::span<const ExpertKey> evicted;  // in the order in which they left
};

class ExpertCache {
 public:
  // REQUIRES: policy made for the same shape and number of partitions.
  ExpertCache(CacheOptions options, std::unique_ptr<EvictionPolicy> policy);

  [[nodiscard]] std::size_t partitions() const { return used_.size(); }
  [[nodiscard]] std::size_t partition_of(LayerId layer) const {
    return options_.scope == CacheScope::kGlobal ? 0 : index(layer);
  }

  // One layer visit of one token. `best_first`: distinct experts, highest weight first. Afterwards
  // all of them count as resident as far as capacity and overflow rule allow; the caller sees to
  // it that the misses are read.
  EventOutcome visit(std::uint32_t token, LayerId layer, std::span<const ExpertId> best_first);

  // The union pass of a prefill over one layer: distinct experts in touch order (least recent
  // first), one event whatever the accounting.
  EventOutcome visit_union(std::uint32_t token, LayerId layer,
                           std::span<const ExpertId> touch_order);

  // Begins a speculative read: the expert takes its room now, evicting as the policy says (never a
  // member of the last event of its partition), and is in flight until finish_read or until a
  // visit demands it. Returns false, with nothing changed, where it is not absent or where no room
  // can be made. `evicted` is valid until the next call.
  bool begin_read(ExpertKey key, std::span<const ExpertKey>& evicted);
  // The speculative read has arrived. Nothing happens where a visit has made it resident before.
  void finish_read(ExpertKey key);

  // Evicts everything (a new sequence). The count of events goes on.
  void reset();

  [[nodiscard]] Residency residency(ExpertKey key) const { return states_[index(key)]; }
  [[nodiscard]] ResidencyView view(LayerId layer) const;
  // Size units in use in a partition, in-flight reads included.
  [[nodiscard]] std::uint64_t used(std::size_t partition) const { return used_[partition]; }
  [[nodiscard]] std::uint64_t capacity() const { return options_.capacity; }
  [[nodiscard]] const CacheOptions& options() const { return options_; }
  [[nodiscard]] const EvictionPolicy& policy() const { return *policy_; }
  [[nodiscard]] std::uint32_t events() const { return next_event_; }

 private:
  EventOutcome run_event(std::uint32_t token, LayerId layer, std::span<const ExpertId> judged,
                         std::span<const ExpertId> touched);
  void enter(ExpertKey key, const CacheEvent& event);
  void evict(ExpertKey key);
  void make_room(const CacheEvent& event, std::uint64_t needed, std::span<const ExpertId> touched);

  CacheOptions options_;
  std::unique_ptr<EvictionPolicy> policy_;
  std::vector<Residency> states_;      // [layers * experts]
  std::vector<std::uint32_t> stamps_;  // [layers * experts], 1 + last event that used it
  std::vector<std::uint8_t> seen_;     // [layers * experts], accessed before
  std::vector<std::uint64_t> used_;    // [partitions]
  std::vector<Access> accesses_;       // of the last event
  std::vector<ExpertKey> evicted_;     // by the last call
  std::vector<ExpertId> touched_;      // scratch
  std::uint32_t next_event_ = 0;
};

}  // namespace moesim
