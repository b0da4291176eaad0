// Conditional counts from layer to layer: an expert of the next visit scores the sum, over the
// experts that just ran, of its share among what followed them in the training part. The last layer
// is followed by the first layer of the next token of its sequence. Further visits are predicted
// from the predicted ones. The counts are those that EdgeMoE and MoE-Infinity gather per pair or
// matrix (hardware.md section 4, cache_aware_routing.md 4.3); the score is this project's own.
#include <algorithm>

#include "core/select.h"
#include "prefetch/training.h"
#include "trace/trace.h"

namespace moesim {
namespace {

class Transition final : public LimitedPrefetcher {
 public:
  Transition(Section& config, const PrefetchContext& context)
      : LimitedPrefetcher(config, context.shape.layers),
        shape_(context.shape),
        pairs_(shape_.layers * shape_.experts * shape_.experts),
        uses_(shape_.layers * shape_.experts),
        scores_(shape_.experts),
        best_(std::min(read_count(config, context, usual_count(context)), shape_.experts)) {
    from_.reserve(shape_.experts);
    train(read_training(config, context), context);
  }

  void predict(const PrefetchQuery& query, std::vector<ExpertKey>& wanted) override {
    if (query.ahead == 1) from_.assign(query.executed.begin(), query.executed.end());
    const std::size_t target = index(query.target_layer);
    const std::size_t source = (target + shape_.layers - 1) % shape_.layers;
    std::fill(scores_.begin(), scores_.end(), 0.0);
    for (const ExpertId expert : from_) add_shares(source, index(expert));
    select_top_k(std::span<const double>(scores_), std::span(best_));
    from_.clear();
    for (const ExpertId expert : best_) {
      if (scores_[index(expert)] == 0) break;
      from_.push_back(expert);
      wanted.push_back(expert_key(query.target_layer, expert, shape_.experts));
    }
  }
  [[nodiscard]] std::uint32_t trained_rows() const override { return trained_rows_; }

 private:
  [[nodiscard]] std::uint32_t* followers(std::size_t layer, std::size_t expert) {
    return &pairs_[(layer * shape_.experts + expert) * shape_.experts];
  }

  void add_shares(std::size_t layer, std::size_t expert) {
    const std::uint32_t uses = uses_[layer * shape_.experts + expert];
    if (uses == 0) return;
    const std::uint32_t* counts = followers(layer, expert);
    for (std::size_t e = 0; e < shape_.experts; ++e) {
      scores_[e] += static_cast<double>(counts[e]) / uses;
    }
  }

  void train(const TrainingPart& part, const PrefetchContext& context) {
    NativeReader reader(context);
    std::vector<ExpertId> before;
    before.reserve(shape_.experts);
    for (std::size_t i = 0; i < part.rows.size(); ++i) {
      const std::uint32_t row = part.rows[i];
      if (i > 0 && context.trace->sequence(row) != context.trace->sequence(part.rows[i - 1])) {
        before.clear();
      }
      for (std::size_t layer = 0; layer < shape_.layers; ++layer) {
        const auto now = reader.read(row, static_cast<LayerId>(layer));
        count((layer + shape_.layers - 1) % shape_.layers, before, now);
        before.assign(now.begin(), now.end());
      }
    }
    trained_rows_ = part.end_row();
  }

  void count(std::size_t layer, std::span<const ExpertId> before, std::span<const ExpertId> now) {
    if (now.empty()) return;
    for (const ExpertId expert : before) {
      ++uses_[layer * shape_.experts + index(expert)];
      std::uint32_t* counts = followers(layer, index(expert));
      for (const ExpertId next : now) ++counts[index(next)];
    }
  }

  RoutingShape shape_;
  std::vector<std::uint32_t> pairs_;  // [layers, experts, experts of the next layer]
  std::vector<std::uint32_t> uses_;   // [layers, experts], that have a successor
  std::vector<double> scores_;        // [experts]
  std::vector<ExpertId> best_;        // [count], scratch
  std::vector<ExpertId> from_;        // the visit before the one asked about, as far as is known
  std::uint32_t trained_rows_ = 0;
};

MOESIM_REGISTER(Prefetcher, Transition, "transition",
                About("what followed the experts of the layer before in a training part",
                      "conditional counts layer to layer; the score is own"),
                count_parameter(), train_fraction_parameter("the tokens before the measured ones"),
                train_tokens_parameter(), distance_parameter(), outstanding_parameter());

}  // namespace
}  // namespace moesim
