// First in, first out: the expert that was loaded longest ago leaves, however often it is used.
#include "cache/eviction/key_lists.h"

namespace moesim {
namespace {

class Fifo final : public EvictionPolicy {
 public:
  Fifo(Section& /*config*/, const EvictionContext& context)
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
      return queues_.oldest(event.partition(), event, spare);
    });
  }
  // Loads since its own, of any expert, itself included.
  [[nodiscard]] double score(ExpertKey key) const override {
    return static_cast<double>(1 + inserts_ - entered_[index(key)]);
  }

 private:
  KeyLists queues_;                     // one per partition
  std::vector<std::uint64_t> entered_;  // [layers * experts], number of its last load
  std::uint64_t inserts_ = 0;
};

MOESIM_REGISTER(EvictionPolicy, Fifo, "fifo",
                About("the expert that was loaded longest ago leaves", "textbook"));

}  // namespace
}  // namespace moesim
