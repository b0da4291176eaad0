// LFRU: the resident with the lowest keep-score count / (age + 1) leaves, where count are its uses
// and age is how many tokens ago the last one was (arXiv 2608.07911; cache_aware_routing.md 4.3).
// Equal scores: the lowest id leaves. A speculative read is no use, but age counts from it too.
#include "cache/eviction/count_parameters.h"
#include "cache/eviction/eviction_policy.h"
#include "cache/eviction/resident_sets.h"

namespace moesim {
namespace {

class Lfru final : public EvictionPolicy {
 public:
  Lfru(Section& config, const EvictionContext& context)
      : residents_(context),
        uses_(context.shape.layers * context.shape.experts),
        persistent_(read_persistent_counts(config)),
        protect_(config.boolean(kProtectCurrentToken.name)) {}

  void begin_event(const CacheEvent& event) override { now_ = event.token(); }
  void on_hit(ExpertKey key, const CacheEvent& event) override { use(key, event); }
  void on_insert(ExpertKey key, const CacheEvent& event) override {
    residents_.insert(key);
    use(key, event);
  }
  void on_evict(ExpertKey key) override {
    residents_.erase(key);
    if (!persistent_) uses_[index(key)].count = 0;
  }
  // Scores of all residents change with every token and not in step, so no order can be kept:
  // O(residents).
  std::optional<ExpertKey> victim(const CacheEvent& event, bool spare_members) override {
    return residents_.first(event, spare_members, [&](ExpertKey a, ExpertKey b) {
      // count_a / (age_a + 1) < count_b / (age_b + 1), exactly
      const std::uint64_t score_a = count(a) * (age(b, event.token()) + 1);
      const std::uint64_t score_b = count(b) * (age(a, event.token()) + 1);
      return score_a != score_b ? score_a < score_b : a < b;
    });
  }
  // 1 / (1 + keep-score)
  [[nodiscard]] double score(ExpertKey key) const override {
    return 1.0 / (1.0 + static_cast<double>(count(key)) / static_cast<double>(age(key, now_) + 1));
  }
  [[nodiscard]] bool protects_event() const override { return protect_; }

 private:
  struct Uses {
    std::uint32_t count = 0;
    std::uint32_t last_token = 0;
  };

  void use(ExpertKey key, const CacheEvent& event) {
    Uses& uses = uses_[index(key)];
    if (event.kind() != EventKind::kSpeculative) ++uses.count;
    uses.last_token = event.token();
  }
  [[nodiscard]] std::uint64_t count(ExpertKey key) const { return uses_[index(key)].count; }
  [[nodiscard]] std::uint64_t age(ExpertKey key, std::uint32_t now) const {
    return now - uses_[index(key)].last_token;
  }

  ResidentSets residents_;
  std::vector<Uses> uses_;  // [layers * experts]
  bool persistent_;
  bool protect_;
  std::uint32_t now_ = 0;
};

MOESIM_REGISTER(EvictionPolicy, Lfru, "lfru",
                About("the lowest count / (age + 1) leaves; age in tokens since the last use",
                      "LFRU, arXiv 2608.07911"),
                kCounts, kProtectCurrentToken);

}  // namespace
}  // namespace moesim
