// Queues of experts over dense arrays: every expert is in one of them or in none. What the policies
// with queues and with ghosts (experts remembered after they left) are made of.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "cache/eviction/eviction_policy.h"
#include "core/ids.h"

namespace moesim {

// Lists are doubly linked, from the newest entry to the oldest. All memory is taken by the
// constructor.
class KeyLists {
 public:
  static constexpr std::uint32_t kNone = 0xFFFFFFFFU;  // the list of an expert that is in none

  // `lists` in all; sizes are those of the context, in the unit of its capacity.
  KeyLists(const EvictionContext& context, std::size_t lists)
      : keys_(context.shape.layers * context.shape.experts),
        links_(keys_ + lists),
        list_of_(keys_, kNone),
        size_of_(context.expert_size.begin(), context.expert_size.end()),
        sizes_(lists, 0) {
    if (size_of_.empty()) size_of_.assign(keys_, 1);
    for (std::size_t list = 0; list < lists; ++list) {
      links_[keys_ + list] = {sentinel(list), sentinel(list)};
    }
  }

  [[nodiscard]] std::size_t lists() const { return sizes_.size(); }
  [[nodiscard]] std::uint32_t list_of(ExpertKey key) const { return list_of_[index(key)]; }
  [[nodiscard]] std::uint64_t size_of(ExpertKey key) const { return size_of_[index(key)]; }
  // The sizes of the experts of a list, added up.
  [[nodiscard]] std::uint64_t size(std::size_t list) const { return sizes_[list]; }
  [[nodiscard]] bool empty(std::size_t list) const {
    return links_[keys_ + list].newer == sentinel(list);
  }

  [[nodiscard]] std::optional<ExpertKey> oldest(std::size_t list) const {
    return key_at(links_[keys_ + list].newer);
  }
  [[nodiscard]] std::optional<ExpertKey> newest(std::size_t list) const {
    return key_at(links_[keys_ + list].older);
  }
  // The neighbour in its list. REQUIRES: the expert is in one.
  [[nodiscard]] std::optional<ExpertKey> newer(ExpertKey key) const {
    return key_at(links_[index(key)].newer);
  }
  [[nodiscard]] std::optional<ExpertKey> older(ExpertKey key) const {
    return key_at(links_[index(key)].older);
  }
  // The oldest and the newest that is no member of the event, where members must be spared.
  [[nodiscard]] std::optional<ExpertKey> oldest(std::size_t list, const CacheEvent& event,
                                                bool spare_members) const {
    std::optional<ExpertKey> key = oldest(list);
    while (key && spare_members && event.is_member(*key)) key = newer(*key);
    return key;
  }
  [[nodiscard]] std::optional<ExpertKey> newest(std::size_t list, const CacheEvent& event,
                                                bool spare_members) const {
    std::optional<ExpertKey> key = newest(list);
    while (key && spare_members && event.is_member(*key)) key = older(*key);
    return key;
  }

  // Makes the expert the newest of a list, out of whatever list it is in.
  void push(std::size_t list, ExpertKey key) {
    erase(key);
    const auto node = static_cast<std::uint32_t>(key);
    const std::uint32_t last = links_[keys_ + list].older;
    links_[node] = {last, sentinel(list)};
    links_[last].newer = node;
    links_[keys_ + list].older = node;
    list_of_[node] = static_cast<std::uint32_t>(list);
    sizes_[list] += size_of_[node];
  }
  // Nothing happens where the expert is in no list.
  void erase(ExpertKey key) {
    std::uint32_t& list = list_of_[index(key)];
    if (list == kNone) return;
    const Link link = links_[index(key)];
    links_[link.older].newer = link.newer;
    links_[link.newer].older = link.older;
    sizes_[list] -= size_of_[index(key)];
    list = kNone;
  }
  void clear(std::size_t list) { shrink(list, 0); }
  // Drops the oldest until the list is no larger than `limit`.
  void shrink(std::size_t list, std::uint64_t limit) {
    while (sizes_[list] > limit) erase(*oldest(list));
  }

 private:
  // A ring through the sentinel: what is newer than the newest is the sentinel, and what is newer
  // than the sentinel is the oldest.
  struct Link {
    std::uint32_t older = 0;
    std::uint32_t newer = 0;
  };

  [[nodiscard]] std::uint32_t sentinel(std::size_t list) const {
    return static_cast<std::uint32_t>(keys_ + list);
  }
  [[nodiscard]] std::optional<ExpertKey> key_at(std::uint32_t node) const {
    if (node >= keys_) return std::nullopt;
    return static_cast<ExpertKey>(node);
  }

  std::size_t keys_;
  std::vector<Link> links_;             // [keys, then one sentinel per list]
  std::vector<std::uint32_t> list_of_;  // [keys]
  std::vector<std::uint64_t> size_of_;  // [keys]
  std::vector<std::uint64_t> sizes_;    // [lists]
};

// The partition that a key belongs to.
class PartitionOf {
 public:
  explicit PartitionOf(const EvictionContext& context)
      : keys_per_partition_(context.shape.layers * context.shape.experts / context.partitions) {}
  [[nodiscard]] std::size_t operator()(ExpertKey key) const {
    return index(key) / keys_per_partition_;
  }

 private:
  std::size_t keys_per_partition_;
};

// Experts that are used at once are in use together: they leave only when no others are left. One
// by one, the published algorithm decides. `find(spare)` names a victim, with members spared or
// not.
template <class Find>
std::optional<ExpertKey> others_first(const CacheEvent& event, bool spare_members, Find&& find) {
  if (!spare_members && event.kind() == EventKind::kOneByOne) return find(false);
  const std::optional<ExpertKey> other = find(true);
  return other || spare_members ? other : find(false);
}

}  // namespace moesim
