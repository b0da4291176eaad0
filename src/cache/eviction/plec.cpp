// PLEC, ExpertFlow's predictive locality-aware expert caching with real-time correction
// (arXiv 2410.17954; routing_and_compression.md 2.3), as an order of victims:
//
//   1. unwanted experts: predicted for the visit of this step, and not routed;
//   2. experts without a slot in the plan of this step, the farthest predicted use first, so that
//      those which nobody expects leave before those of the next token: this is where experts are
//      whose computation is over;
//   3. experts that have a slot and are still to run, again the farthest first.
//
// Equal predicted uses: the less probable leaves, without a prediction the longest unused, then the
// lower id. A speculative read is let in only where its expert ranks behind the victim, so that a
// prefetcher which names the whole path, nearest first, fills the slots in the order of the plan
// and refills them as experts are computed. Experts of the current visit never leave.
//
// The method predicts a whole step before it runs; here every layer's next visit is predicted when
// its last one is known, and once more just before its turn. The plan counts slots in experts of
// mean size.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "cache/eviction/eviction_policy.h"
#include "cache/eviction/plec_plan.h"
#include "cache/eviction/ranked_residents.h"
#include "cache/path_predictor.h"
#include "core/rng.h"

namespace moesim {
namespace {

constexpr std::uint32_t kNoUse = FutureAccesses::kNever;

std::unique_ptr<PathPredictor> make_predictor(Section& config, const EvictionContext& context) {
  const std::string name = config.choice(
      "predictor", {"previous_token", "previous_layer", "frequency", "noisy_oracle", "oracle"});
  const std::size_t experts = std::max<std::size_t>(context.shape.experts, 1);
  const std::size_t count =
      config.optional_integer("count", 1, experts).value_or(std::max<std::size_t>(context.k, 1));
  const PredictionNoise noise{config.number("recall", kUnitInterval),
                              config.number("precision", {0.0, 1.0, true}),
                              Rng::for_component(context.seed, "noisy_oracle").next()};
  // With every expert of a layer named, k in E are true.
  const double lowest = static_cast<double>(context.k) / static_cast<double>(experts);
  if (name == "noisy_oracle" && noise.precision < lowest) {
    throw config.error(
        "precision", fmt::format("expected at least {:.4f} (k = {} of {} experts), got {}", lowest,
                                 context.k, experts, noise.precision));
  }
  // What it saw is what it names: a union pass may have run more than `count`.
  if (name == "previous_token") {
    return std::make_unique<PreviousTokenPath>(context.shape, context.shape.experts);
  }
  if (name == "previous_layer") {
    return std::make_unique<PreviousLayerPath>(context.shape, context.shape.experts);
  }
  if (name == "frequency") return std::make_unique<PopularityPath>(context.shape, count);
  if (name == "oracle") return std::make_unique<FuturePath>(context.future);
  return std::make_unique<NoisyFuturePath>(context.shape, context.future, noise);
}

PlecSplit read_split(Section& config) {
  return config.choice("plec_split", {"greedy", "proportional"}) == "greedy"
             ? PlecSplit::kGreedy
             : PlecSplit::kProportional;
}

class Plec final : public EvictionPolicy {
 public:
  Plec(Section& config, const EvictionContext& context)
      : shape_(context.shape),
        predictor_(make_predictor(config, context)),
        plan_(context.shape, context.slots, read_split(config), context.partitions > 1),
        residents_(context.shape, context.partitions),
        predicted_(context.shape.layers),
        uses_(context.shape.layers * context.shape.experts) {
    for (auto& layer : predicted_) layer.reserve(shape_.experts);
    named_.reserve(shape_.experts);
    routed_.reserve(shape_.experts);
    routed_ids_.reserve(shape_.experts);
    unwanted_.reserve(uses_.size());
  }

  void begin_event(const CacheEvent& event) override {
    residents_.begin_event();
    read_members(event);
    const std::size_t layer = index(event.layer());
    if (!begun_) predict_all(event);
    const bool new_step = !begun_ || layer <= last_layer_ || event.token() != last_token_;
    if (new_step) begin_step();
    for (const ExpertKey key : plan_.route_known(event.layer(), routed_).unwanted) {
      use_of(key).unwanted = true;
      unwanted_.push_back(key);
      rank(key);
    }
    predictor_->observe(event.layer(), routed_ids_);
    predict(layer, event.number(), shape_.layers);
    predict((layer + 1) % shape_.layers, event.number(), 1);
    rank_changed();
    begun_ = true;
    last_layer_ = layer;
    last_token_ = event.token();
  }

  void on_hit(ExpertKey key, const CacheEvent& /*event*/) override { use(key); }
  void on_insert(ExpertKey key, const CacheEvent& event) override {
    if (event.kind() == EventKind::kSpeculative) {
      residents_.set(key, rank_of(key));
    } else {
      use(key);
    }
  }
  void on_evict(ExpertKey key) override { residents_.erase(key); }

  std::optional<ExpertKey> victim(const CacheEvent& event, bool spare_members) override {
    return residents_.first(event, spare_members);
  }
  bool makes_room_for(ExpertKey key, const CacheEvent& event) override {
    const std::optional<ExpertKey> leaves = residents_.first(event, true);
    if (!leaves) return false;
    const Rank& victim = residents_.priority(*leaves);
    const Rank reader = rank_of(key);
    return victim.group != reader.group ? victim.group < reader.group : victim.next > reader.next;
  }
  bool on_computed(ExpertKey key) override {
    residents_.begin_event();  // members that the visit had to spare are victims again
    plan_.compute_done(key);
    rank_changed();
    return true;
  }

  // The number of the event of the next predicted use (2^32 - 1 without one), 2^32 more without a
  // slot, 2^33 where the expert is unwanted.
  [[nodiscard]] double score(ExpertKey key) const override {
    const Rank& rank = residents_.priority(key);
    return std::array<double, 3>{0x1p33, 0x1p32, 0.0}[rank.group] + rank.next;
  }

  [[nodiscard]] bool protects_event() const override { return true; }
  [[nodiscard]] bool looks_ahead() const override { return predictor_->looks_ahead(); }
  void reset() override {
    predictor_->begin_sequence();
    for (auto& layer : predicted_) layer.clear();
    for (Use& use : uses_) use = {};
    unwanted_.clear();
    plan_.begin_step(predicted_);
    plan_.clear_changed();
    begun_ = false;
  }

 private:
  struct Use {
    std::uint32_t next = kNoUse;  // event of the next predicted use
    std::uint32_t place = 0;      // in the prediction, most probable first
    std::uint64_t last = 0;       // time of the last use
    bool unwanted = false;
  };
  struct Rank {
    std::uint8_t group = 0;
    std::uint32_t next = kNoUse;
    std::uint32_t place = 0;
    std::uint64_t last = 0;
    ExpertKey key{};
  };
  struct LeavesFirst {
    bool operator()(const Rank& a, const Rank& b) const {
      if (a.group != b.group) return a.group < b.group;
      if (a.next != b.next) return a.next > b.next;
      if (a.place != b.place) return a.place > b.place;
      return a.last != b.last ? a.last < b.last : a.key < b.key;
    }
  };

  [[nodiscard]] Use& use_of(ExpertKey key) { return uses_[index(key)]; }

  [[nodiscard]] Rank rank_of(ExpertKey key) const {
    const Use& use = uses_[index(key)];
    const int group = use.unwanted ? 0 : (plan_.has_slot(key) ? 2 : 1);
    return {static_cast<std::uint8_t>(group), use.next, use.place, use.last, key};
  }
  void rank(ExpertKey key) {
    if (residents_.contains(key)) residents_.set(key, rank_of(key));
  }
  void rank_changed() {
    for (const ExpertKey key : plan_.changed()) rank(key);
    plan_.clear_changed();
  }
  void use(ExpertKey key) {
    use_of(key).last = ++clock_;
    residents_.set(key, rank_of(key));
  }

  void read_members(const CacheEvent& event) {
    routed_.clear();
    routed_ids_.clear();
    for (const ExpertId expert : event.members()) {
      routed_.push_back(expert_key(event.layer(), expert, shape_.experts));
      routed_ids_.push_back(expert);
    }
  }

  // What was unwanted in the last step is predicted anew in this one.
  void begin_step() {
    for (const ExpertKey key : unwanted_) {
      use_of(key).unwanted = false;
      rank(key);
    }
    unwanted_.clear();
    plan_.begin_step(predicted_);
  }

  // Before the first visit nothing has been predicted. Its own layer's turn is over already.
  void predict_all(const CacheEvent& event) {
    for (std::size_t ahead = 1; ahead < shape_.layers; ++ahead) {
      predict((index(event.layer()) + ahead) % shape_.layers, event.number(), ahead);
    }
  }

  // The next visit of `layer`, `ahead` visits after event `number`.
  void predict(std::size_t layer, std::uint32_t number, std::size_t ahead) {
    const auto distance = static_cast<std::uint32_t>(ahead);
    named_.clear();
    predictor_->predict({static_cast<LayerId>(layer), number + distance, distance}, named_);
    auto& predicted = predicted_[layer];
    for (const ExpertKey key : predicted) {
      use_of(key).next = kNoUse;
      use_of(key).place = 0;
      rank(key);
    }
    predicted.clear();
    for (const ExpertKey key : named_) {
      // Where a layer was passed over, the future's visit is another's.
      if (index(layer_of(key, shape_.experts)) != layer) continue;
      use_of(key).next = number + distance;
      use_of(key).place = static_cast<std::uint32_t>(predicted.size());
      predicted.push_back(key);
      rank(key);
    }
  }

  RoutingShape shape_;
  std::unique_ptr<PathPredictor> predictor_;
  PlecPlan plan_;
  RankedResidents<Rank, LeavesFirst> residents_;
  std::vector<std::vector<ExpertKey>> predicted_;  // [layers], for the next visit of each
  std::vector<Use> uses_;                          // [layers * experts]
  std::vector<ExpertKey> named_;                   // scratch
  std::vector<ExpertKey> routed_;                  // members of the last event
  std::vector<ExpertId> routed_ids_;               // the same
  std::vector<ExpertKey> unwanted_;                // in this step
  std::uint64_t clock_ = 0;
  std::size_t last_layer_ = 0;
  std::uint32_t last_token_ = 0;
  bool begun_ = false;  // since construction or reset
};

MOESIM_REGISTER(
    EvictionPolicy, Plec, "plec",
    About("predicted experts have slots; unwanted ones leave first, then those whose turn is "
          "over",
          "arXiv 2410.17954 (ExpertFlow), Expert Cache Engine"),
    {"predictor", "previous_token", "what predicts the path; named as the prefetch policies are",
     "string", "previous_token|previous_layer|frequency|noisy_oracle|oracle",
     "routing_and_compression.md 2.5; the method's own is learned"},
    {"plec_split", "greedy", "how the slots of a shared cache go to the layers", "string",
     "greedy|proportional", "routing_and_compression.md 2.3"},
    {"count", nullptr, "frequency: experts named for a visit; null: k", "integer", "[1, E]", "own"},
    {"recall", 0.9, "noisy_oracle: share of the true experts that are named", "number", "[0, 1]",
     "routing_and_compression.md 2.5"},
    {"precision", 0.9, "noisy_oracle: share of the named experts that are true", "number", "(0, 1]",
     "routing_and_compression.md 2.5"});

}  // namespace
}  // namespace moesim
