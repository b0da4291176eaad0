// A resident drawn at random leaves, each with the same chance. Seeded by the run.
#include "cache/eviction/key_lists.h"
#include "cache/eviction/resident_sets.h"
#include "core/rng.h"

namespace moesim {
namespace {

class Random final : public EvictionPolicy {
 public:
  Random(Section& /*config*/, const EvictionContext& context)
      : residents_(context), rng_(Rng::for_component(context.seed, "eviction/random")) {}

  void on_hit(ExpertKey /*key*/, const CacheEvent& /*event*/) override {}
  void on_insert(ExpertKey key, const CacheEvent& /*event*/) override { residents_.insert(key); }
  void on_evict(ExpertKey key) override { residents_.erase(key); }
  std::optional<ExpertKey> victim(const CacheEvent& event, bool spare_members) override {
    return others_first(event, spare_members, [&](bool spare) { return draw(event, spare); });
  }
  // All residents are equally likely to leave.
  [[nodiscard]] double score(ExpertKey /*key*/) const override { return 1.0; }
  // Drawn before another enters: what enters stays.
  [[nodiscard]] Insertion insertion() const override { return Insertion::kOneByOne; }

 private:
  // A drawn member that must be spared is put behind the candidates.
  std::optional<ExpertKey> draw(const CacheEvent& event, bool spare) {
    const std::span<const ExpertKey> residents = residents_.of(event.partition());
    for (std::size_t candidates = residents.size(); candidates > 0; --candidates) {
      const ExpertKey drawn = residents[rng_.below(candidates)];
      if (!spare || !event.is_member(drawn)) return drawn;
      residents_.swap(drawn, residents[candidates - 1]);
    }
    return std::nullopt;
  }

  ResidentSets residents_;
  Rng rng_;
};

MOESIM_REGISTER(EvictionPolicy, Random, "random",
                About("a resident drawn at random leaves, each with the same chance; seeded",
                      "textbook; CECAR's baseline"));

}  // namespace
}  // namespace moesim
