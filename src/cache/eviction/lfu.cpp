// Least frequently used: lowest count of uses, then longest unused (in events), then lowest id; or,
// with ties "touch", then longest untouched, as in lru: the touch order decides within an event.
// A speculative read is no use. Without protection an expert that enters may leave at once, when
// its count is the lowest.
#include <string>
#include <vector>

#include "cache/eviction/count_parameters.h"
#include "cache/eviction/eviction_policy.h"
#include "cache/eviction/ranked_residents.h"

namespace moesim {
namespace {

const Parameter kTies{"ties",
                      "event",
                      "of equal counts, event: the longest unused in events leaves, then the "
                      "lowest id; touch: the longest untouched",
                      "string",
                      "event|touch",
                      "event: the reference's golden rows; touch: reproduces qwen-curve.csv of "
                      "BigMoeOnEdge"};

struct Use {
  std::uint32_t count = 0;
  std::uint32_t last = 0;  // event or touch
  ExpertKey key{};
};

struct LeastUsed {
  bool operator()(const Use& a, const Use& b) const {
    const std::uint64_t rank_a = std::uint64_t{a.count} << 32 | a.last;
    const std::uint64_t rank_b = std::uint64_t{b.count} << 32 | b.last;
    return rank_a != rank_b ? rank_a < rank_b : a.key < b.key;
  }
};

class Lfu final : public EvictionPolicy {
 public:
  Lfu(Section& config, const EvictionContext& context)
      : residents_(context.shape, context.partitions),
        counts_(context.shape.layers * context.shape.experts, 0),
        persistent_(read_persistent_counts(config)),
        by_touch_(config.choice(kTies.name, {"event", "touch"}) == "touch"),
        protect_(config.boolean(kProtectCurrentToken.name)) {}

  void begin_event(const CacheEvent& event) override {
    residents_.begin_event();
    if (!by_touch_) now_ = event.number();
  }
  void on_hit(ExpertKey key, const CacheEvent& event) override { use(key, event); }
  void on_insert(ExpertKey key, const CacheEvent& event) override { use(key, event); }
  void on_evict(ExpertKey key) override {
    residents_.erase(key);
    if (!persistent_) counts_[index(key)] = 0;
  }
  std::optional<ExpertKey> victim(const CacheEvent& event, bool spare_members) override {
    return residents_.first(event, spare_members);
  }
  // 1 / (1 + count + r) with r in (0, 1), the larger the more recent the last use is.
  [[nodiscard]] double score(ExpertKey key) const override {
    const Use& use = residents_.priority(key);
    return 1.0 / (1.0 + use.count + (use.last + 1.0) / (now_ + 2.0));
  }
  [[nodiscard]] bool protects_event() const override { return protect_; }

 private:
  void use(ExpertKey key, const CacheEvent& event) {
    std::uint32_t& count = counts_[index(key)];
    if (event.kind() != EventKind::kSpeculative) ++count;
    if (by_touch_) ++now_;
    residents_.postpone(key, {count, by_touch_ ? now_ : event.number(), key});
  }

  RankedResidents<Use, LeastUsed> residents_;
  std::vector<std::uint32_t> counts_;  // [layers * experts]
  bool persistent_;
  bool by_touch_;
  bool protect_;
  std::uint32_t now_ = 0;  // number of the event, or touches so far
};

MOESIM_REGISTER(EvictionPolicy, Lfu, "lfu",
                About("the least frequently used expert leaves", "textbook; CECAR's baseline"),
                kCounts, kProtectCurrentToken, kTies);

}  // namespace
}  // namespace moesim
