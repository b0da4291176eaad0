// Predicts experts that coming layer visits will need, so that they can be read ahead of demand.
// A predictor names experts; what a prediction costs is charged by whoever drives it, and how good
// it was is judged there.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "cache/residency_view.h"
#include "config/registry.h"
#include "core/ids.h"
#include "model/gate_spec.h"

namespace moesim {

class FutureAccesses;
class Trace;

struct PrefetchContext {
  RoutingShape shape;
  std::size_t k = 0;
  const Trace* trace = nullptr;            // for training on a part of it and for look-ahead logits
  const FutureAccesses* future = nullptr;  // set where the run has one (see looks_ahead)
  std::uint64_t seed = 1;
  GateSpec gate;                     // of the trace: how its logits become a selection
  std::uint64_t router_bytes = 0;    // of one layer's router matrix; 0 where no model says
  std::uint32_t first_measured = 0;  // row of the trace; what is before it may be trained on
  std::size_t visit_experts = 0;     // of a visit: k, more where several sequences share a pass
};

// One coming layer visit, asked about at the moment when the experts of visit `layer` of `token`
// have just become known, or (see predicts_at_token_start) before the first layer of `token`.
struct PrefetchQuery {
  std::uint32_t token = 0;             // row of the trace that is being decoded
  LayerId layer{};                     // the last visit's
  std::span<const ExpertId> executed;  // its experts, best first; empty before the first layer
  std::uint32_t ahead = 1;             // how many visits ahead the one asked about is
  LayerId target_layer{};              // the layer of that visit
  std::uint32_t target_event = 0;      // the number of that cache event
  bool next_token = false;             // it belongs to a token after `token`
};

class Prefetcher {
 public:
  using Context = PrefetchContext;
  virtual ~Prefetcher() = default;

  // Appends the experts that the visit will need, distinct, most urgent first; residents may be
  // named, the caller skips them. Nothing where the predictor cannot know. From one moment the
  // visits are asked about nearest first (ahead = 1, 2, ... up to distance()), possibly several
  // times. Must not allocate in steady state.
  virtual void predict(const PrefetchQuery& query, std::vector<ExpertKey>& wanted) = 0;

  // A decoded visit ran these experts, best first: for predictors that learn as the run goes on.
  // Comes before the questions from that moment. Must not allocate.
  virtual void observe(LayerId /*layer*/, std::span<const ExpertId> /*executed*/) {}
  virtual void begin_sequence() {}

  // How many visits ahead the predictor is asked about, at least 1.
  [[nodiscard]] virtual std::uint32_t distance() const { return 1; }
  // Weight bytes that the cores read for the predictions of one moment (a predictor's own
  // matrices); `query` is the one with ahead = 1. Reads begin when that is done.
  [[nodiscard]] virtual std::uint64_t predictor_bytes(const PrefetchQuery& /*query*/) const {
    return 0;
  }
  // Speculative bytes that may be outstanding at once.
  [[nodiscard]] virtual std::uint64_t max_outstanding_bytes() const { return 0; }
  // True when the answer depends on query.token. Where several sequences decode in one pass such a
  // predictor is asked for each of its tokens, others once, about the union.
  [[nodiscard]] virtual bool looks_at_token() const { return false; }
  // True when the predictor is also to be asked before the first layer of a token, because the
  // token itself tells it something.
  [[nodiscard]] virtual bool predicts_at_token_start() const { return false; }
  // True when the predictor needs the future (PrefetchContext::future must be set).
  [[nodiscard]] virtual bool looks_ahead() const { return false; }
  // One more than the last row of the trace that the predictor was trained on; 0 where none.
  [[nodiscard]] virtual std::uint32_t trained_rows() const { return 0; }
  // False for `none`: the run then skips prediction altogether.
  [[nodiscard]] virtual bool active() const { return true; }
};

}  // namespace moesim
