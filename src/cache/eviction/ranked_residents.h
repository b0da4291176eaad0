// The residents of every partition in the order in which a policy would evict them: one heap per
// partition, with the experts of the current event left out where they must be spared.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "cache/eviction/eviction_policy.h"
#include "core/ids.h"
#include "core/indexed_heap.h"

namespace moesim {

// `Before` as for IndexedHeap: a strict total order, the first is evicted first.
template <class Priority, class Before>
class RankedResidents {
 public:
  RankedResidents(const RoutingShape& shape, std::size_t partitions)
      : entries_(shape.layers * shape.experts) {
    const std::size_t per_heap = entries_.size() / partitions;
    heaps_.reserve(partitions);  // one by one, because a copied heap keeps no spare memory
    for (std::size_t i = 0; i < partitions; ++i) heaps_.emplace_back(per_heap);
    for (std::size_t key = 0; key < entries_.size(); ++key) {
      entries_[key].heap = static_cast<std::uint32_t>(key / per_heap);
      entries_[key].place = static_cast<std::uint32_t>(key % per_heap);
    }
    spared_.reserve(2 * shape.experts);  // a member is spared, touched and spared again
  }

  // Call first for each event.
  void begin_event() { restore(); }

  [[nodiscard]] bool contains(ExpertKey key) const {
    const Entry& entry = entries_[index(key)];
    return heaps_[entry.heap].contains(entry.place);
  }
  // The last one that was set.
  [[nodiscard]] const Priority& priority(ExpertKey key) const {
    return entries_[index(key)].priority;
  }
  // Inserts, or gives a new priority. O(log residents).
  void set(ExpertKey key, const Priority& priority) {
    Entry& entry = entries_[index(key)];
    entry.priority = priority;
    entry.stale = false;
    heaps_[entry.heap].set(entry.place, priority);
  }
  // The same in O(1) where the expert is there: the heap learns of it when the expert comes up.
  // REQUIRES: the new priority is not before the old one.
  void postpone(ExpertKey key, const Priority& priority) {
    Entry& entry = entries_[index(key)];
    if (!heaps_[entry.heap].contains(entry.place)) {
      set(key, priority);
      return;
    }
    entry.priority = priority;
    entry.stale = true;
  }
  // O(log residents).
  void erase(ExpertKey key) {
    Entry& entry = entries_[index(key)];
    heaps_[entry.heap].erase(entry.place);
    if (!spared_.empty()) std::erase(spared_, key);
  }

  // The first of the event's partition, or nullopt where there is none.
  std::optional<ExpertKey> first(const CacheEvent& event, bool spare_members) {
    IndexedHeap<Priority, Before>& heap = heaps_[event.partition()];
    const std::size_t base = event.partition() * (entries_.size() / heaps_.size());
    std::optional<ExpertKey> found;
    while (!found && !heap.empty()) {
      const auto key = static_cast<ExpertKey>(base + heap.top());
      if (entries_[index(key)].stale) {
        set(key, Priority(entries_[index(key)].priority));
      } else if (spare_members && event.is_member(key)) {
        heap.erase(heap.top());
        spared_.push_back(key);
      } else {
        found = key;
      }
    }
    // Otherwise they stay out for the next victims of this event.
    if (event.kind() == EventKind::kSpeculative) restore();
    return found;
  }

 private:
  struct Entry {
    Priority priority{};
    std::uint32_t heap = 0;
    std::uint32_t place = 0;  // id within the heap
    bool stale = false;       // the heap has an older priority
  };

  void restore() {
    for (const ExpertKey key : spared_) set(key, Priority(entries_[index(key)].priority));
    spared_.clear();
  }

  std::vector<Entry> entries_;                        // [layers * experts]
  std::vector<IndexedHeap<Priority, Before>> heaps_;  // [partitions]
  std::vector<ExpertKey> spared_;                     // taken out of the heaps until restore()
};

}  // namespace moesim
