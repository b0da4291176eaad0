// First in, first out: the expert that was loaded longest ago leaves, however often it is used.
#include "cache/eviction/load_order.h"

namespace moesim {
namespace {

class Fifo final : public LoadOrder {
 public:
  Fifo(Section& /*config*/, const EvictionContext& context) : LoadOrder(context) {}

  std::optional<ExpertKey> victim(const CacheEvent& event, bool spare_members) override {
    return others_first(event, spare_members, [&](bool spare) {
      return queues().oldest(event.partition(), event, spare);
    });
  }
  [[nodiscard]] double score(ExpertKey key) const override { return loads_since(key); }
};

MOESIM_REGISTER(EvictionPolicy, Fifo, "fifo",
                About("the expert that was loaded longest ago leaves", "textbook"));

}  // namespace
}  // namespace moesim
