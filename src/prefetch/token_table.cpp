// Experts by token id: P(e | token id, layer) counted over a training part (OpenMoE, arXiv
// 2402.01739, context-independent specialisation; routing_and_compression.md 3.4). A token's id is
// known before its first layer, so it is asked about then too, and never about the next token,
// whose id does not exist yet. Says nothing about an id that the training part has not.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "core/select.h"
#include "prefetch/training.h"
#include "trace/trace.h"

namespace moesim {
namespace {

class TokenTable final : public LimitedPrefetcher {
 public:
  TokenTable(Section& config, const PrefetchContext& context)
      : LimitedPrefetcher(config, context.shape.layers),
        shape_(context.shape),
        trace_(context.trace),
        count_(std::min(read_count(config, context, context.k), shape_.experts)),
        min_occurrences_(config.integer("min_occurrences", 1)) {
    if (!trace_->has_token_ids()) {
      throw config.error("policy",
                         fmt::format("token_table needs the tensor token_ids, which the trace {} "
                                     "lacks",
                                     trace_->shown()));
    }
    train(read_training(config, context), context);
  }

  [[nodiscard]] bool looks_at_token() const override { return true; }
  void predict(const PrefetchQuery& query, std::vector<ExpertKey>& wanted) override {
    if (query.next_token) return;
    const std::int32_t id = trace_->token_id(query.token);
    const auto found = std::lower_bound(ids_.begin(), ids_.end(), id);
    if (found == ids_.end() || *found != id) return;
    const std::size_t cell =
        static_cast<std::size_t>(found - ids_.begin()) * shape_.layers + index(query.target_layer);
    for (std::size_t i = 0; i < counts_[cell]; ++i) {
      wanted.push_back(expert_key(query.target_layer, best_[cell * count_ + i], shape_.experts));
    }
  }
  [[nodiscard]] bool predicts_at_token_start() const override { return true; }
  [[nodiscard]] std::uint32_t trained_rows() const override { return trained_rows_; }

 private:
  void train(const TrainingPart& part, const PrefetchContext& context) {
    std::vector<std::uint32_t> rows = part.rows;
    std::stable_sort(rows.begin(), rows.end(), [this](std::uint32_t a, std::uint32_t b) {
      return trace_->token_id(a) < trace_->token_id(b);
    });
    NativeReader reader(context);
    std::vector<std::uint32_t> uses(shape_.layers * shape_.experts);
    for (std::size_t first = 0; first < rows.size();) {
      std::size_t end = first + 1;
      while (end < rows.size() && trace_->token_id(rows[end]) == trace_->token_id(rows[first]))
        ++end;
      if (end - first >= min_occurrences_) {
        count_uses(std::span(rows).subspan(first, end - first), reader, uses);
        add_id(trace_->token_id(rows[first]), uses);
      }
      first = end;
    }
    trained_rows_ = part.end_row();
  }

  void count_uses(std::span<const std::uint32_t> rows, NativeReader& reader,
                  std::vector<std::uint32_t>& uses) const {
    std::fill(uses.begin(), uses.end(), 0U);
    for (const std::uint32_t row : rows) {
      for (std::size_t layer = 0; layer < shape_.layers; ++layer) {
        for (const ExpertId expert : reader.read(row, static_cast<LayerId>(layer))) {
          ++uses[layer * shape_.experts + index(expert)];
        }
      }
    }
  }

  // Keeps the `count` most used experts of each layer, equal ones by lower id.
  void add_id(std::int32_t id, const std::vector<std::uint32_t>& uses) {
    ids_.push_back(id);
    for (std::size_t layer = 0; layer < shape_.layers; ++layer) {
      const auto of_layer = std::span(uses).subspan(layer * shape_.experts, shape_.experts);
      best_.resize(best_.size() + count_);
      const auto best = std::span(best_).last(count_);
      select_top_k(of_layer, best);
      std::uint32_t used = 0;
      while (used < count_ && of_layer[index(best[used])] > 0) ++used;
      counts_.push_back(used);
    }
  }

  RoutingShape shape_;
  const Trace* trace_;
  std::size_t count_;
  std::uint64_t min_occurrences_;
  std::vector<std::int32_t> ids_;      // [ids], increasing
  std::vector<ExpertId> best_;         // [ids, layers, count]
  std::vector<std::uint32_t> counts_;  // [ids, layers], how many of them were used at all
  std::uint32_t trained_rows_ = 0;
};

MOESIM_REGISTER(Prefetcher, TokenTable, "token_table",
                About("the experts that the token's id used in a training part",
                      "arXiv 2402.01739 (OpenMoE), context-independent specialisation"),
                count_parameter(), train_fraction_parameter("the tokens before the measured ones"),
                train_tokens_parameter(),
                {"min_occurrences", 1,
                 "ids with fewer occurrences in the training part are unknown", "integer",
                 "[1, inf)", "own"},
                distance_parameter(), outstanding_parameter());

}  // namespace
}  // namespace moesim
