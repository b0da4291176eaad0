// A plan of layers (Dr.LLM, arXiv 2510.12773): each block with experts is skipped, run or repeated,
// m in {0, 1, 2}, per run or per sequence. The published router decides from hidden states, which
// no trace holds, so the plan is given. Inside a block that runs the routing is the model's own; a
// repeat takes the same experts (to first order: in truth its hidden state may route differently).
//
// The plan applies to decoded tokens. Hidden layers without experts are in no plan and run once, as
// does everything in a prefill.
#include <algorithm>
#include <charconv>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "config/json_place.h"
#include "core/errors.h"
#include "routing/routing_policy.h"

namespace moesim {
namespace {

constexpr std::uint64_t kMost = 2;

using Plan = std::vector<std::uint32_t>;  // [layers]

struct Plans {
  Plan common;
  std::map<std::int32_t, Plan> by_sequence;
};

Plan read_plan(const JsonPlace& place, std::size_t layers) {
  place.require_array(layers, "MoE layer");
  Plan plan;
  plan.reserve(layers);
  for (std::size_t layer = 0; layer < layers; ++layer) {
    plan.push_back(static_cast<std::uint32_t>(place.element(layer).integer(0, kMost)));
  }
  if (std::count(plan.begin(), plan.end(), 0U) == static_cast<std::ptrdiff_t>(layers)) {
    throw place.error("at least one layer that runs");
  }
  return plan;
}

// An array, or an object from "default" and sequence numbers to arrays.
Plans read_value(const JsonPlace& place, std::size_t layers) {
  if (place.value().is_array()) return {read_plan(place, layers), {}};
  if (!place.value().is_object()) {
    throw place.error("an array with 0, 1 or 2 per MoE layer, or an object of such by sequence");
  }
  Plans plans{Plan(layers, 1), {}};
  for (const auto& [key, value] : place.value().items()) {
    const Plan plan = read_plan(place.member(key), layers);
    if (key == "default") {
      plans.common = plan;
      continue;
    }
    std::int32_t sequence = 0;
    const auto [end, failure] = std::from_chars(key.data(), key.data() + key.size(), sequence);
    if (failure != std::errc() || end != key.data() + key.size()) {
      throw place.member(key).error("the number of a sequence or \"default\" as the key");
    }
    plans.by_sequence[sequence] = plan;
  }
  return plans;
}

Plans read_plans(Section& config, const RoutingContext& context) {
  const std::size_t layers = context.shape.layers;
  if (config.has("executions") && config.has("file")) {
    throw config.error("file", "expected executions or a file with them, got both");
  }
  if (config.has("executions")) return read_value(JsonPlace(config, "executions"), layers);
  if (!config.has("file")) return {Plan(layers, 1), {}};
  const std::string shown = config.string("file");
  const Json file = read_json_file(context.base_dir / shown, shown);
  return read_value(JsonPlace(file, shown, ""), layers);
}

class LayerPlan final : public RoutingPolicy {
 public:
  LayerPlan(Section& config, const RoutingContext& context)
      : k_(context.k), plans_(read_plans(config, context)) {
    const auto widen = [this](const Plan& plan) {
      for (const std::uint32_t executions : plan) most_ = std::max(most_, executions);
    };
    widen(plans_.common);
    for (const auto& [sequence, plan] : plans_.by_sequence) widen(plan);
  }

  void route(const RouterVisit& visit, const ResidencyView& /*residency*/,
             Selection& chosen) override {
    chosen = visit.gate.native();
  }

  [[nodiscard]] std::uint32_t executions(std::int32_t sequence, LayerId layer) const override {
    const auto own = plans_.by_sequence.find(sequence);
    return (own == plans_.by_sequence.end() ? plans_.common : own->second)[index(layer)];
  }
  [[nodiscard]] std::uint32_t max_executions() const override { return most_; }
  [[nodiscard]] std::size_t max_experts() const override { return k_; }
  [[nodiscard]] bool needs_logits() const override { return false; }

 private:
  std::size_t k_;
  Plans plans_;
  std::uint32_t most_ = 1;
};

MOESIM_REGISTER(
    RoutingPolicy, LayerPlan, "layer_plan",
    About("skips, runs or repeats the block of each MoE layer as a given plan says",
          "Dr.LLM, arXiv 2510.12773; its router needs hidden states, so the plan is an input",
          [](std::size_t) { return Json::object(); }),
    {"executions", nullptr,
     "an array with 0 (skip), 1 or 2 (repeat) per MoE layer, or an object of such arrays by "
     "sequence number, \"default\" for the others; null: 1 everywhere = top_k",
     "array or object", "[0, 2]", "arXiv 2510.12773"},
    {"file", nullptr, "a JSON file with the array or object, in the place of executions", "file",
     "a path, relative to the configuration", "own"});

}  // namespace
}  // namespace moesim
