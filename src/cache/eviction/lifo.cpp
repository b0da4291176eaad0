// Last in, first out: the expert that was loaded most recently leaves, so that the first ones stay
// for good (CECAR's `lifo`: evict the most recently inserted; cache_aware_routing.md 2.3).
#include "cache/eviction/load_order.h"

namespace moesim {
namespace {

class Lifo final : public LoadOrder {
 public:
  Lifo(Section& /*config*/, const EvictionContext& context) : LoadOrder(context) {}

  std::optional<ExpertKey> victim(const CacheEvent& event, bool spare_members) override {
    return others_first(event, spare_members, [&](bool spare) {
      return queues().newest(event.partition(), event, spare);
    });
  }
  [[nodiscard]] double score(ExpertKey key) const override { return 1.0 / loads_since(key); }
  // The newest must leave before another enters, or what enters would be the newest itself.
  [[nodiscard]] Insertion insertion() const override { return Insertion::kOneByOne; }
};

MOESIM_REGISTER(EvictionPolicy, Lifo, "lifo",
                About("the expert that was loaded most recently leaves",
                      "CECAR (github malmong/CECAR 8e46ad2)"));

}  // namespace
}  // namespace moesim
