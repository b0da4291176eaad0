// What a run's predictor is asked, moment by moment, and what it named for the very next visit: the
// prediction that is judged.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/ids.h"
#include "prefetch/prefetcher.h"

namespace moesim {

class Forecast {
 public:
  Forecast(Prefetcher& prefetcher, const RoutingShape& shape);

  [[nodiscard]] bool active() const { return active_; }
  [[nodiscard]] std::uint32_t distance() const { return prefetcher_.distance(); }
  void begin_sequence() { prefetcher_.begin_sequence(); }
  // The rows of all tokens of a pass over several sequences; empty where there is one. They must
  // stay valid until the next call.
  void set_rows(std::span<const std::uint32_t> rows) { rows_ = rows; }

  // [layers]: how often the block of each runs in this pass; empty: once each. Must stay valid
  // until the next call.
  void set_executions(std::span<const std::uint32_t> executions) { executions_ = executions; }

  // The moment is now after this decoded visit, the first of its block where that is repeated.
  // `executed` must stay valid until the next moment.
  void after_visit(std::uint32_t token, LayerId layer, std::uint32_t event,
                   std::span<const ExpertId> executed);
  // The moment is now before the first layer of `token`, whose event will be `event`. False, with
  // nothing changed, where the predictor has nothing to say then.
  bool at_token_start(std::uint32_t token, std::uint32_t event);

  // What is named for the visit `ahead` of the moment; ask nearest first. Valid until the next
  // call. Throws InvariantError where the predictor names an expert that does not exist.
  std::span<const ExpertKey> ask(std::uint32_t ahead);
  // What predicting at this moment reads on the cores.
  [[nodiscard]] std::uint64_t predictor_bytes() const {
    return prefetcher_.predictor_bytes(query(1));
  }
  // All that was named for event `event` as the next visit, distinct; empty where nothing was.
  [[nodiscard]] std::span<const ExpertKey> named_for(std::uint32_t event) const;

 private:
  [[nodiscard]] PrefetchQuery query(std::uint32_t ahead) const;
  // Visits of a layer, and the first layer from `layer` on that is visited at all; both go round.
  [[nodiscard]] std::uint32_t visits(std::size_t layer) const {
    return executions_.empty() ? 1 : executions_[layer % shape_.layers];
  }
  [[nodiscard]] std::size_t visited_from(std::size_t layer) const;
  void ask_each_row(std::uint32_t ahead);
  void keep_next();

  Prefetcher& prefetcher_;
  RoutingShape shape_;
  bool active_;
  std::uint32_t token_ = 0;
  LayerId layer_{};
  std::span<const ExpertId> executed_;
  std::span<const std::uint32_t> rows_;
  std::span<const std::uint32_t> executions_;
  std::uint32_t next_event_ = 0;  // number of the visit that is one ahead
  std::size_t next_layer_ = 0;    // its layer; `layers` where it is the next token's first
  std::vector<ExpertKey> named_;
  std::vector<ExpertKey> of_row_;
  std::vector<ExpertKey> kept_;   // named for the next visit
  std::uint32_t kept_event_ = 0;  // which that is
};

}  // namespace moesim
