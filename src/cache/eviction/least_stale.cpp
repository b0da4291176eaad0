// Least-Stale (SpecMD, arXiv 2602.03921): experts that were last used in an earlier forward pass
// are stale and leave first; what the current pass has used or prefetched leaves only when nothing
// stale is left. Each of the two queues runs by layer: the lowest layer, whose turn in this pass is
// longest over, leaves first. Within a layer the expert that joined its queue first leaves (own:
// the source does not say).
//
// A pass is one token through all layers, or one prefill.
#include <tuple>

#include "cache/eviction/key_lists.h"
#include "cache/eviction/resident_sets.h"

namespace moesim {
namespace {

class LeastStale final : public EvictionPolicy {
 public:
  LeastStale(Section& /*config*/, const EvictionContext& context)
      : shape_(context.shape),
        residents_(context),
        touches_(context.shape.layers * context.shape.experts) {}

  void begin_event(const CacheEvent& event) override {
    if (event.token() != token_ || event.layer() < layer_) ++pass_;
    token_ = event.token();
    layer_ = event.layer();
  }
  void on_hit(ExpertKey key, const CacheEvent& /*event*/) override { touch(key); }
  void on_insert(ExpertKey key, const CacheEvent& /*event*/) override {
    residents_.insert(key);
    touch(key);
  }
  void on_evict(ExpertKey key) override { residents_.erase(key); }
  std::optional<ExpertKey> victim(const CacheEvent& event, bool spare_members) override {
    return others_first(event, spare_members, [&](bool spare) {
      return residents_.first(event, spare,
                              [&](ExpertKey a, ExpertKey b) { return rank(a) < rank(b); });
    });
  }
  // The stale score 1 to 2, the others less than 1; within each the lower layers more, and within a
  // layer those touched longer ago.
  [[nodiscard]] double score(ExpertKey key) const override {
    const auto [current, layer, touched] = rank(key);
    const auto waited = static_cast<double>(clock_ - touched);
    const double by_layer = static_cast<double>(shape_.layers - 1 - layer);
    return (current ? 0.0 : 1.0) +
           (by_layer + waited / (waited + 1)) / static_cast<double>(shape_.layers);
  }
  // What enters must not compete with the experts of layers above it that were prefetched.
  [[nodiscard]] Insertion insertion() const override { return Insertion::kOneByOne; }

 private:
  struct Touch {
    std::uint64_t pass = 0;
    std::uint64_t time = 0;
  };
  using Rank = std::tuple<bool, std::size_t, std::uint64_t>;

  void touch(ExpertKey key) { touches_[index(key)] = {pass_, ++clock_}; }
  [[nodiscard]] Rank rank(ExpertKey key) const {
    const Touch& touch = touches_[index(key)];
    return {touch.pass == pass_, index(layer_of(key, shape_.experts)), touch.time};
  }

  RoutingShape shape_;
  ResidentSets residents_;
  std::vector<Touch> touches_;  // [layers * experts]
  std::uint64_t pass_ = 0;
  std::uint64_t clock_ = 0;
  std::uint32_t token_ = 0xFFFFFFFFU;  // before the first: what is there then is stale
  LayerId layer_{};
};

MOESIM_REGISTER(EvictionPolicy, LeastStale, "least_stale",
                About("experts last used in an earlier forward pass leave first, the lowest layer "
                      "first; made for one cache for all layers",
                      "Least-Stale, SpecMD, arXiv 2602.03921"));

}  // namespace
}  // namespace moesim
