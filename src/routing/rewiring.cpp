// Rewiring (Rewiring Experts on the Fly, arXiv 2510.14853): per MoE layer an additive vector on the
// router's logits, z~ = z + delta, drives selection and weights. delta is optimised at run time,
// after the prefill and then every m tokens, and holds for the m tokens that follow. Finding it
// needs gradients; a recorded one is replayed here, one vector per layer and segment.
//
// Segments are those of m decoded tokens of one sequence; a sequence begins a new one. They are
// numbered through the trace, sequence after sequence.
#include <fmt/format.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/errors.h"
#include "routing/altered_logits.h"
#include "routing/recorded_deltas.h"
#include "routing/routing_policy.h"
#include "trace/trace.h"

namespace moesim {
namespace {

// [tokens]: the segment of each decoded token, 0 for those of a prefill; then their number.
std::vector<std::uint32_t> segments_of(const Trace& trace, std::uint64_t length) {
  std::vector<std::uint32_t> segments(trace.shape().tokens);
  std::uint32_t begun = 0;
  std::uint64_t position = 0;  // of decoded tokens in the sequence
  for (std::size_t token = 0; token < segments.size(); ++token) {
    if (token > 0 && trace.sequence(token) != trace.sequence(token - 1)) position = 0;
    if (trace.phase(token) != Phase::kDecode) continue;
    if (position++ % length == 0) ++begun;
    segments[token] = begun - 1;
  }
  segments.push_back(begun);
  return segments;
}

class Rewiring final : public RoutingPolicy {
 public:
  Rewiring(Section& config, const RoutingContext& context) : k_(context.k), altered_(context) {
    const std::uint64_t length = config.integer("m", 1);
    if (!config.has("delta")) return;
    if (context.trace == nullptr) {
      throw config.error("delta", "expected null, for there is no trace whose segments it is for");
    }
    const std::string shown = config.string("delta");
    deltas_ = RecordedDeltas::read(context.base_dir / shown, shown, context.shape);
    segments_ = segments_of(*context.trace, length);
    const std::uint32_t needed = segments_.back();
    segments_.pop_back();
    if (deltas_->segments() != needed) {
      throw config.error(
          "delta", fmt::format("{}: expected {} segments of {} decoded tokens, which the trace {} "
                               "has, got {}",
                               shown, needed, length, context.trace->shown(), deltas_->segments()));
    }
  }

  void route(const RouterVisit& visit, const ResidencyView& /*residency*/,
             Selection& chosen) override {
    if (!deltas_) {
      chosen = visit.gate.native();
      return;
    }
    const std::span<float> logits = altered_.start(visit.gate);
    const std::span<const float> delta = deltas_->at(segments_[visit.token], visit.layer);
    for (std::size_t e = 0; e < delta.size(); ++e) logits[e] += delta[e];
    altered_.select(visit.gate, chosen);
  }

  [[nodiscard]] std::size_t max_experts() const override { return k_; }
  [[nodiscard]] WeightRule weight_rule() const override {
    return deltas_ ? WeightRule::kAlteredLogits : WeightRule::kGate;
  }
  [[nodiscard]] std::span<const float> altered_logits() const override {
    return deltas_ ? altered_.logits() : std::span<const float>();
  }
  [[nodiscard]] bool needs_logits() const override { return deltas_.has_value(); }
  [[nodiscard]] std::optional<double> bias_divergence(
      const RouterVisit& visit, const ResidencyView& /*residency*/) const override {
    return deltas_ ? altered_.divergence(visit.gate) : 0.0;
  }

 private:
  std::size_t k_;
  std::optional<RecordedDeltas> deltas_;
  std::vector<std::uint32_t> segments_;  // [tokens of the trace]
  AlteredLogits altered_;
};

MOESIM_REGISTER(
    RoutingPolicy, Rewiring, "rewiring",
    About("adds a recorded vector to the logits, one per layer and segment of the sequence",
          "Rewiring Experts on the Fly, arXiv 2510.14853; its gradient steps are an input",
          [](std::size_t) { return Json::object(); }),
    {"delta", nullptr,
     "a JSON or safetensors file with delta[segments][layers][experts]; null: zero = top_k", "file",
     "a path, relative to the configuration", "arXiv 2510.14853"},
    {"m", 128, "decoded tokens of a segment", "integer", "[1, inf)", "arXiv 2510.14853"});

}  // namespace
}  // namespace moesim
