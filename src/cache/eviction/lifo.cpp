// Last in, first out: the expert that was loaded most recently leaves, so that the first ones stay
// for good (CECAR's `lifo`: evict the most recently inserted; cache_aware_routing.md 2.3).
#include "cache/eviction/key_lists.h"

namespace moesim {
namespace {

class Lifo final : public EvictionPolicy {
 public:
  Lifo(Section& /*config*/, const EvictionContext& context)
      : queues_(context, context.partitions),
        entered_(context.shape.layers * context.shape.experts, 0) {}

  void on_hit(ExpertKey /*key*/, const CacheEvent& /*event*/) override {}
  void on_insert(ExpertKey key, const CacheEvent& event) override {
    queues_.push(event.partition(), key);
    entered_[index(key)] = ++inserts_;
  }
  void on_evict(ExpertKey key) override { queues_.erase(key); }
  std::optional<ExpertKey> victim(const CacheEvent& event, bool spare_members) override {
    return others_first(event, spare_members, [&](bool spare) {
      return queues_.newest(event.partition(), event, spare);
    });
  }
  // 1 / (loads since its own, of any expert, itself included).
  [[nodiscard]] double score(ExpertKey key) const override {
    return 1.0 / static_cast<double>(1 + inserts_ - entered_[index(key)]);
  }
  // The newest must leave before another enters, or what enters would be the newest itself.
  [[nodiscard]] Insertion insertion() const override { return Insertion::kOneByOne; }

 private:
  KeyLists queues_;                     // one per partition
  std::vector<std::uint64_t> entered_;  // [layers * experts], number of its last load
  std::uint64_t inserts_ = 0;
};

MOESIM_REGISTER(EvictionPolicy, Lifo, "lifo",
                About("the expert that was loaded most recently leaves",
                      "CECAR (github malmong/CECAR 8e46ad2)"));

}  // namespace
}  // namespace moesim
