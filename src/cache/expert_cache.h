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
// kHitUntilFull: what enters a partition that has not been full yet counts as a hit, as if it had
// been there before (cache_aware_routing.md 3.1, the rule of SCH); by weight, best first.
enum class ColdStart : std::uint8_t { kStrict, kHitUntilFull };

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
  ColdStart cold_start = ColdStart::kStrict;
  // Distinct experts that are there at the start and after each reset, the most valuable first;
  // what does not fit is left out. Their loading is counted nowhere.
  std::vector<ExpertKey> initial;
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
  // How many of the event's evictions came before this access; 0 where all are judged at once.
  std::uint32_t evicted_before = 0;
};

// Spans are valid until the next call.
struct EventOutcome {
  std::uint32_t number = 0;          // of the event
  std::span<const Access> accesses;  // in the order given
  // In the order in which they left; not those that an at-once event evicted and took back.
  std::span<const ExpertKey> evicted;
  bool streamed = false;  // capacity 0: nothing entered
  // The experts entered and left one after the other (Accounting::kAccess), not all at once.
  bool one_by_one = false;
};

class ExpertCache {
 public:
  // REQUIRES: policy made for the same shape and number of partitions. Throws InvariantError where
  // expert_size does not fit the shape or holds a 0, or `initial` names an expert out of range or
  // twice.
  ExpertCache(CacheOptions options, std::unique_ptr<EvictionPolicy> policy);

  [[nodiscard]] std::size_t partitions() const { return partitions_.size(); }
  [[nodiscard]] std::size_t partition_of(LayerId layer) const {
    return options_.scope == CacheScope::kGlobal ? 0 : index(layer);
  }

  // One layer visit of one token. `best_first`: distinct experts, highest weight first. Afterwards
  // all of them count as resident as far as capacity and overflow rule allow; the caller sees to
  // it that the misses are read. Throws InvariantError for an expert that is out of range or named
  // twice, and where the policy names a victim that it must not.
  EventOutcome visit(std::uint32_t token, LayerId layer, std::span<const ExpertId> best_first);

  // The union pass of a prefill over one layer: distinct experts in touch order (least recent
  // first), one event whatever the accounting. Throws as visit().
  EventOutcome visit_union(std::uint32_t token, LayerId layer,
                           std::span<const ExpertId> touch_order);

  // Begins a speculative read: the expert takes its room now, evicting as the policy says (never a
  // member of the last event of its partition), and is in flight until finish_read or until a
  // visit demands it; it cannot be evicted meanwhile. Returns false, with nothing changed, where it
  // is not absent, where no room can be made or where the policy holds the victim dearer. `evicted`
  // is valid until the next call.
  bool begin_read(ExpertKey key, std::span<const ExpertKey>& evicted);
  // The last visit has computed this expert. Returns true where the policy gives it up for
  // speculative reads (EvictionPolicy::on_computed).
  bool compute_done(ExpertKey key);
  // The speculative read has arrived. Nothing happens where a visit has made it resident before.
  void finish_read(ExpertKey key);

  // Evicts everything (a new sequence) and starts again from the initial contents. The count of
  // events goes on. Reads under way are dropped: the caller must not report them as finished.
  void reset();

  [[nodiscard]] Residency residency(ExpertKey key) const { return states_[index(key)]; }
  [[nodiscard]] ResidencyView view(LayerId layer) const;
  // Only the first `experts` items of the layer, where the cache holds more than one of an expert.
  [[nodiscard]] ResidencyView view(LayerId layer, std::size_t experts) const;
  // Size units in use in a partition, in-flight reads included.
  [[nodiscard]] std::uint64_t used(std::size_t partition) const {
    return partitions_[partition].used;
  }
  [[nodiscard]] std::uint64_t capacity() const { return options_.capacity; }
  [[nodiscard]] const CacheOptions& options() const { return options_; }
  [[nodiscard]] const EvictionPolicy& policy() const { return *policy_; }
  [[nodiscard]] std::uint32_t events() const { return next_event_; }

 private:
  // Sizes are in the unit of the capacity.
  struct Partition {
    std::uint64_t used = 0;
    std::uint64_t in_flight = 0;   // part of used
    std::uint64_t members = 0;     // part of used: residents that the last event used
    std::uint32_t last_event = 0;  // number; 0 also before the first
    std::uint32_t last_token = 0;
    bool was_full = false;  // something had no room since the start or the last reset
  };

  EventOutcome run_at_once(std::uint32_t token, LayerId layer, std::span<const ExpertId> experts,
                           bool last_is_touched_first);
  EventOutcome run_one_by_one(std::uint32_t token, LayerId layer,
                              std::span<const ExpertId> experts);
  CacheEvent begin_event(std::uint32_t token, LayerId layer, std::span<const ExpertId> experts,
                         EventKind kind);
  EventOutcome end_event(const CacheEvent& event);
  void fill();
  void judge_cold(const CacheEvent& event, std::span<Access> accesses);
  void touch(ExpertKey key, const Access& access, const CacheEvent& event);
  void enter(ExpertKey key, const CacheEvent& event);
  void make_room(const CacheEvent& event, std::uint64_t needed);
  void trim(const CacheEvent& event, std::span<const Access> touched, bool last_is_touched_first);
  void evict_victim(ExpertKey key, const CacheEvent& event, bool spare_members);
  void evict(ExpertKey key, Partition& partition);
  [[nodiscard]] std::uint64_t resident_members(const CacheEvent& event) const;
  [[nodiscard]] CacheEvent speculative_event(ExpertKey key) const;

  CacheOptions options_;
  std::unique_ptr<EvictionPolicy> policy_;
  Insertion insertion_;                // the policy's
  bool spare_members_;                 // of the event, as long as others are left
  std::vector<Residency> states_;      // [layers * experts]
  std::vector<std::uint32_t> stamps_;  // [layers * experts], 1 + last event that used it
  std::vector<Partition> partitions_;  // [partitions]
  std::size_t keys_per_partition_;
  std::vector<Access> accesses_;    // of the last event
  std::vector<ExpertKey> evicted_;  // by the last call
  std::uint32_t next_event_ = 0;
};

}  // namespace moesim
