// The next layer's router applied to this layer's input: the trace recorded its logits
// (next_layer_logits). Speculative loading of Mixtral-offloading (arXiv 2312.17238) and its
// relatives (cache_aware_routing.md 4.3). The router matrix is read once more for it. After the
// last layer there is no next one.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/select.h"
#include "prefetch/limits.h"
#include "routing/gate.h"
#include "trace/trace.h"

namespace moesim {
namespace {

class NextLayerGate final : public LimitedPrefetcher {
 public:
  NextLayerGate(Section& config, const PrefetchContext& context)
      : LimitedPrefetcher(config, 1),
        shape_(context.shape),
        trace_(context.trace),
        router_bytes_(context.router_bytes),
        gate_(context.gate, context.shape.experts, context.k),
        logits_(context.shape.experts),
        best_(std::min(read_count(config, context, context.k), context.shape.experts)) {
    if (!trace_->has_tensor("next_layer_logits")) {
      throw config.error("policy",
                         fmt::format("next_layer_gate needs the tensor next_layer_logits, which "
                                     "the trace {} lacks",
                                     trace_->shown()));
    }
  }

  [[nodiscard]] bool looks_at_token() const override { return true; }
  void predict(const PrefetchQuery& query, std::vector<ExpertKey>& wanted) override {
    if (query.next_token || query.executed.empty()) return;
    trace_->read_next_layer_logits(query.token, query.layer, logits_);
    gate_.set_logits(logits_, trace_->selection_bias(query.target_layer));
    const auto ranking = gate_.ranking();
    select_top_k(ranking, std::span(best_));
    for (const ExpertId expert : best_) {
      if (std::isinf(ranking[index(expert)])) break;  // of a group that is excluded
      wanted.push_back(expert_key(query.target_layer, expert, shape_.experts));
    }
  }
  [[nodiscard]] std::uint64_t predictor_bytes(const PrefetchQuery& query) const override {
    return query.next_token ? 0 : router_bytes_;
  }

 private:
  RoutingShape shape_;
  const Trace* trace_;
  std::uint64_t router_bytes_;
  Gate gate_;
  std::vector<float> logits_;   // [experts]
  std::vector<ExpertId> best_;  // [count], scratch
};

MOESIM_REGISTER(Prefetcher, NextLayerGate, "next_layer_gate",
                About("the next layer's router applied to this layer's input, as recorded",
                      "arXiv 2312.17238 (Mixtral-offloading), speculative loading"),
                count_parameter(), outstanding_parameter());

}  // namespace
}  // namespace moesim
