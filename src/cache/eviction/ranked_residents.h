// The residents of every partition in the order in which a policy would evict them: one heap per
// partition, with the experts of the current event left out where they must be spared.
#pragma once

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
      : keys_per_heap_(shape.layers * shape.experts / partitions) {
    heaps_.reserve(partitions);  // one by one, because a copied heap keeps no spare memory
    for (std::size_t i = 0; i < partitions; ++i) heaps_.emplace_back(keys_per_heap_);
    set_aside_.reserve(shape.experts);
  }

  [[nodiscard]] bool contains(ExpertKey key) const {
    return heaps_[heap_of(key)].contains(place_of(key));
  }
  // REQUIRES: set(key, ...) was called before.
  [[nodiscard]] const Priority& priority(ExpertKey key) const {
    return heaps_[heap_of(key)].priority(place_of(key));
  }
  // Inserts, or gives a new priority. O(log residents).
  void set(ExpertKey key, const Priority& priority) {
    heaps_[heap_of(key)].set(place_of(key), priority);
  }
  // O(log residents).
  void erase(ExpertKey key) { heaps_[heap_of(key)].erase(place_of(key)); }

  // The first of the event's partition, or nullopt where there is none.
  std::optional<ExpertKey> first(const CacheEvent& event, bool spare_members) {
    IndexedHeap<Priority, Before>& heap = heaps_[event.partition()];
    const std::size_t base = event.partition() * keys_per_heap_;
    std::optional<ExpertKey> found;
    while (!found && !heap.empty()) {
      const auto key = static_cast<ExpertKey>(base + heap.top());
      if (spare_members && event.is_member(key)) {
        set_aside_.push_back(heap.top());
        heap.erase(heap.top());
      } else {
        found = key;
      }
    }
    for (const std::size_t place : set_aside_) heap.set(place, Priority(heap.priority(place)));
    set_aside_.clear();
    return found;
  }

 private:
  [[nodiscard]] std::size_t heap_of(ExpertKey key) const { return index(key) / keys_per_heap_; }
  [[nodiscard]] std::size_t place_of(ExpertKey key) const { return index(key) % keys_per_heap_; }

  std::size_t keys_per_heap_;
  std::vector<IndexedHeap<Priority, Before>> heaps_;  // [partitions]
  std::vector<std::size_t> set_aside_;                // scratch; at most the members of one event
};

}  // namespace moesim
