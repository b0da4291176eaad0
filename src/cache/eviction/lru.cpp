// Least recently used: the resident whose last touch is longest ago leaves. Touches within an event
// are in its touch order, so with kAfterEvent the residents are the most recently touched experts
// that fit (cache_aware_routing.md 1.8, the timestamp form).
#include <cstddef>
#include <vector>

#include "cache/eviction/eviction_policy.h"

namespace moesim {
namespace {

// One circular doubly linked list per partition over dense arrays; the node after the sentinel is
// the least recent, the one before it the most recent.
class Lru final : public EvictionPolicy {
 public:
  Lru(Section& /*config*/, const EvictionContext& context)
      : keys_(context.shape.layers * context.shape.experts),
        keys_per_partition_(keys_ / context.partitions),
        links_(keys_ + context.partitions),
        places_(keys_, 0),
        ranked_at_(context.partitions, 0) {
    for (std::size_t i = 0; i < context.partitions; ++i) {
      const std::uint32_t sentinel = sentinel_of(i);
      links_[sentinel] = {sentinel, sentinel};
    }
  }

  void on_hit(ExpertKey key, const CacheEvent& event) override {
    unlink(node_of(key));
    append(node_of(key), sentinel_of(event.partition()));
  }
  void on_insert(ExpertKey key, const CacheEvent& event) override {
    append(node_of(key), sentinel_of(event.partition()));
  }
  void on_evict(ExpertKey key) override { unlink(node_of(key)); }

  std::optional<ExpertKey> victim(const CacheEvent& event, bool spare_members) override {
    const std::uint32_t sentinel = sentinel_of(event.partition());
    for (std::uint32_t node = links_[sentinel].next; node != sentinel; node = links_[node].next) {
      const auto key = static_cast<ExpertKey>(node);
      if (!spare_members || !event.is_member(key)) return key;
    }
    return std::nullopt;
  }

  // The place in the order of recency: 1 for the most recent of its partition. Counted anew, in
  // O(residents), for the first question after a change.
  [[nodiscard]] double score(ExpertKey key) const override {
    const std::size_t partition = index(key) / keys_per_partition_;
    if (ranked_at_[partition] != changes_) rank(partition);
    return places_[index(key)];
  }

 private:
  struct Link {
    std::uint32_t previous = 0;
    std::uint32_t next = 0;
  };

  static std::uint32_t node_of(ExpertKey key) { return static_cast<std::uint32_t>(key); }
  [[nodiscard]] std::uint32_t sentinel_of(std::size_t partition) const {
    return static_cast<std::uint32_t>(keys_ + partition);
  }

  void unlink(std::uint32_t node) {
    ++changes_;
    const Link link = links_[node];
    links_[link.previous].next = link.next;
    links_[link.next].previous = link.previous;
  }
  void append(std::uint32_t node, std::uint32_t sentinel) {
    ++changes_;
    const std::uint32_t last = links_[sentinel].previous;
    links_[node] = {last, sentinel};
    links_[last].next = node;
    links_[sentinel].previous = node;
  }

  void rank(std::size_t partition) const {
    const std::uint32_t sentinel = sentinel_of(partition);
    std::uint32_t place = 0;
    for (std::uint32_t node = links_[sentinel].previous; node != sentinel;
         node = links_[node].previous) {
      places_[node] = ++place;
    }
    ranked_at_[partition] = changes_;
  }

  std::size_t keys_;
  std::size_t keys_per_partition_;
  std::vector<Link> links_;                       // [keys, then one sentinel per partition]
  std::uint64_t changes_ = 1;                     // of any list
  mutable std::vector<std::uint32_t> places_;     // [keys], as of ranked_at_ of the partition
  mutable std::vector<std::uint64_t> ranked_at_;  // [partitions], value of changes_
};

MOESIM_REGISTER(EvictionPolicy, Lru, "lru",
                About("the least recently used expert leaves",
                      "arXiv 2412.00099, section 1.8 of the "
                      "reference (timestamp form)"));

}  // namespace
}  // namespace moesim
