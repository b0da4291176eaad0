// SIEVE (Zhang et al., NSDI 2024, algorithm 1): a queue in the order of loading and a hand that
// walks it from the oldest to the newest. A use sets the expert's visited bit; the hand clears the
// bits that it meets and evicts the first expert without one, wherever it stands.
#include "cache/eviction/key_lists.h"

namespace moesim {
namespace {

class Sieve final : public EvictionPolicy {
 public:
  Sieve(Section& /*config*/, const EvictionContext& context)
      : queues_(context, context.partitions),
        partition_of_(context),
        marks_(context.shape.layers * context.shape.experts),
        hands_(context.partitions) {}

  void on_hit(ExpertKey key, const CacheEvent& /*event*/) override {
    Mark& mark = marks_[index(key)];
    mark.visited = mark.used;  // the first use after a speculative read is that of an insertion
    mark.used = true;
  }
  void on_insert(ExpertKey key, const CacheEvent& event) override {
    queues_.push(event.partition(), key);
    marks_[index(key)] = {++inserts_, false, event.kind() != EventKind::kSpeculative};
  }
  void on_evict(ExpertKey key) override {
    std::optional<ExpertKey>& hand = hands_[partition_of_(key)];
    if (hand == key) hand = queues_.newer(key);
    queues_.erase(key);
  }
  std::optional<ExpertKey> victim(const CacheEvent& event, bool spare_members) override {
    return others_first(event, spare_members, [&](bool spare) { return walk(event, spare); });
  }
  // Not visited: 1 to 2, visited: less than 1; within each the more, the longer ago it was loaded.
  [[nodiscard]] double score(ExpertKey key) const override {
    const Mark& mark = marks_[index(key)];
    const auto waited = static_cast<double>(inserts_ - mark.inserted);
    return (mark.visited ? 0.0 : 1.0) + waited / (waited + 1);
  }
  // The hand decides before another enters the queue.
  [[nodiscard]] Insertion insertion() const override { return Insertion::kOneByOne; }

 private:
  struct Mark {
    std::uint64_t inserted = 0;
    bool visited = false;
    bool used = false;  // false while only a speculative read has brought it
  };

  // Spared members keep their bit; after two rounds there is nothing but them.
  std::optional<ExpertKey> walk(const CacheEvent& event, bool spare) {
    std::optional<ExpertKey>& hand = hands_[event.partition()];
    for (int wraps = 0; wraps < 3;) {
      if (!hand) {
        hand = queues_.oldest(event.partition());
        ++wraps;
        if (!hand) return std::nullopt;
      }
      Mark& mark = marks_[index(*hand)];
      const bool spared = spare && event.is_member(*hand);
      if (!spared && !mark.visited) return hand;
      if (!spared) mark.visited = false;
      hand = queues_.newer(*hand);
    }
    return std::nullopt;
  }

  KeyLists queues_;  // one per partition
  PartitionOf partition_of_;
  std::vector<Mark> marks_;                      // [layers * experts]
  std::vector<std::optional<ExpertKey>> hands_;  // [partitions]; none: at the oldest
  std::uint64_t inserts_ = 0;
};

MOESIM_REGISTER(
    EvictionPolicy, Sieve, "sieve",
    About("a hand walks the queue of loading and evicts what was not used since it last "
          "came by",
          "SIEVE, Zhang et al., NSDI 2024, algorithm 1"));

}  // namespace
}  // namespace moesim
