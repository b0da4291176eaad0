// The residents of every partition in no order, for policies that look at all of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "cache/eviction/eviction_policy.h"
#include "core/ids.h"

namespace moesim {

class ResidentSets {
 public:
  explicit ResidentSets(const EvictionContext& context)
      : keys_(context.shape.layers * context.shape.experts),
        places_(keys_.size(), 0),
        counts_(context.partitions, 0),
        keys_per_partition_(keys_.size() / context.partitions) {}

  // REQUIRES: it is not there.
  void insert(ExpertKey key) {
    const std::size_t partition = index(key) / keys_per_partition_;
    put(key, partition * keys_per_partition_ + counts_[partition]++);
  }
  // The last one takes its place. REQUIRES: it is there.
  void erase(ExpertKey key) {
    const std::size_t partition = index(key) / keys_per_partition_;
    const std::size_t last = partition * keys_per_partition_ + --counts_[partition];
    put(keys_[last], places_[index(key)]);
  }
  void swap(ExpertKey a, ExpertKey b) {
    const std::size_t place = places_[index(a)];
    put(a, places_[index(b)]);
    put(b, place);
  }
  [[nodiscard]] std::span<const ExpertKey> of(std::size_t partition) const {
    return std::span(keys_).subspan(partition * keys_per_partition_, counts_[partition]);
  }

  // The first of the event's partition under the strict total order `before`; O(residents).
  template <class Before>
  [[nodiscard]] std::optional<ExpertKey> first(const CacheEvent& event, bool spare_members,
                                               Before&& before) const {
    std::optional<ExpertKey> found;
    for (const ExpertKey key : of(event.partition())) {
      if (spare_members && event.is_member(key)) continue;
      if (!found || before(key, *found)) found = key;
    }
    return found;
  }

 private:
  void put(ExpertKey key, std::size_t place) {
    keys_[place] = key;
    places_[index(key)] = place;
  }

  std::vector<ExpertKey> keys_;      // [partitions, keys of each], the first counts_ are residents
  std::vector<std::size_t> places_;  // [keys], in keys_
  std::vector<std::size_t> counts_;  // [partitions]
  std::size_t keys_per_partition_;
};

}  // namespace moesim
