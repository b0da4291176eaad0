// Steering towards a set of experts per layer, such as those of a language or a task (Multilingual
// Routing in MoE, arXiv 2510.04694). The intervention acts on the logits inside the model, so that
// selection and weights both follow from the altered ones:
//   soft      z_e += lambda std(z), over the experts of the layer (population)
//   activate  z_e = max(z) + eps, eps ~ N(0, 1e-6), which only parts equals
//   suppress  z_e = min(z)
// With the resident experts as the set, soft steering is a cousin of Cache-Prior whose bonus needs
// no estimate; it differs in that the weights follow.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "config/json_place.h"
#include "core/errors.h"
#include "core/rng.h"
#include "routing/altered_logits.h"
#include "routing/routing_policy.h"

namespace moesim {
namespace {

enum class Mode : std::uint8_t { kSoft, kActivate, kSuppress };

// Standard deviation of eps; the source writes N(0, 1e-6) without saying which of the two it is.
constexpr double kTieBreak = 1e-6;

Mode read_mode(Section& config) {
  const std::string name = config.choice("mode", {"soft", "activate", "suppress"});
  if (name == "soft") return Mode::kSoft;
  return name == "activate" ? Mode::kActivate : Mode::kSuppress;
}

// One layer's list of distinct experts, or null for none.
void read_layer(const JsonPlace& place, std::span<std::uint8_t> members) {
  if (place.value().is_null()) return;
  place.require_array();
  for (std::size_t i = 0; i < place.value().size(); ++i) {
    const JsonPlace element = place.element(i);
    std::uint8_t& member = members[element.integer(0, members.size() - 1)];
    if (member != 0) throw element.error("experts that differ");
    member = 1;
  }
}

// [layers, experts]: 1 for the experts named; nullopt for the resident ones.
std::optional<std::vector<std::uint8_t>> read_experts(Section& config,
                                                      const RoutingContext& context) {
  const bool resident = config.raw("experts") == "resident";
  const bool from_file = config.has("file");
  if (from_file && !resident) {
    throw config.error("file", "expected experts or a file that lists them, got both");
  }
  if (!from_file && resident) return std::nullopt;
  const std::string shown = from_file ? config.string("file") : "";
  const Json file = from_file ? read_json_file(context.base_dir / shown, shown) : Json();
  const JsonPlace place = from_file ? JsonPlace(file, shown, "") : JsonPlace(config, "experts");
  if (!place.value().is_array()) {
    throw place.error(std::string(from_file ? "" : "\"resident\" or ") +
                      "an array with a list of experts per MoE layer");
  }
  const auto [tokens, layers, experts] = context.shape;
  place.require_array(layers, "MoE layer");
  std::vector<std::uint8_t> members(layers * experts);
  for (std::size_t layer = 0; layer < layers; ++layer) {
    read_layer(place.element(layer), std::span(members).subspan(layer * experts, experts));
  }
  return members;
}

// First and last layer to steer in.
std::pair<std::size_t, std::size_t> read_layers(Section& config, std::size_t layers) {
  if (!config.has("layers")) return {0, layers - 1};
  const JsonPlace place(config, "layers");
  if (!place.value().is_array() || place.value().size() != 2) {
    throw place.error("[first, last], MoE layers counted from 0");
  }
  const std::uint64_t first = place.element(0).integer(0, layers - 1);
  return {first, place.element(1).integer(first, layers - 1)};
}

double deviation(std::span<const float> values) {
  const auto count = static_cast<double>(values.size());
  double mean = 0;
  for (const float value : values) mean += value / count;
  double squares = 0;
  for (const float value : values) squares += (value - mean) * (value - mean);
  return std::sqrt(squares / count);
}

class Steering final : public RoutingPolicy {
 public:
  Steering(Section& config, const RoutingContext& context)
      : k_(context.k),
        experts_(context.shape.experts),
        mode_(read_mode(config)),
        lambda_(config.number("lambda", {-1.0, 1.0})),
        members_(read_experts(config, context)),
        layers_(read_layers(config, context.shape.layers)),
        softmax_(context.gate.code == GateCode::kA || context.gate.code == GateCode::kB ||
                 context.gate.code == GateCode::kC),
        rng_(Rng::for_component(context.seed, "routing/steering")),
        altered_(context) {}

  void route(const RouterVisit& visit, const ResidencyView& residency, Selection& chosen) override {
    if (!steers()) {
      chosen = visit.gate.native();
      return;
    }
    const std::span<float> logits = altered_.start(visit.gate);
    const std::size_t layer = index(visit.layer);
    if (layer >= layers_.first && layer <= layers_.second) {
      alter(visit.gate.logits(), logits, [&](std::size_t e) {
        return members_ ? (*members_)[layer * experts_ + e] != 0
                        : residency.states()[e] == Residency::kResident;
      });
    }
    altered_.select(visit.gate, chosen);
  }

  [[nodiscard]] std::size_t max_experts() const override { return k_; }
  [[nodiscard]] WeightRule weight_rule() const override {
    return steers() ? WeightRule::kAlteredLogits : WeightRule::kGate;
  }
  [[nodiscard]] std::span<const float> altered_logits() const override {
    return steers() ? altered_.logits() : std::span<const float>();
  }
  [[nodiscard]] bool looks_at_residency() const override { return steers() && !members_; }
  [[nodiscard]] bool needs_logits() const override { return steers(); }
  [[nodiscard]] std::optional<double> bias_divergence(
      const RouterVisit& visit, const ResidencyView& /*residency*/) const override {
    return steers() ? altered_.divergence(visit.gate) : 0.0;
  }

 private:
  [[nodiscard]] bool steers() const { return mode_ != Mode::kSoft || lambda_ != 0; }

  template <class IsMember>
  void alter(std::span<const float> original, std::span<float> logits, IsMember&& is_member) {
    double base = 0;
    if (mode_ == Mode::kSoft) base = lambda_ * deviation(original);
    if (mode_ == Mode::kActivate) base = *std::max_element(original.begin(), original.end());
    if (mode_ == Mode::kActivate && softmax_) {
      // The same to a softmax, and eps is not lost in the rounding of large logits.
      for (float& logit : logits) logit -= static_cast<float>(base);
      base = 0;
    }
    if (mode_ == Mode::kSuppress) base = *std::min_element(original.begin(), original.end());
    for (std::size_t e = 0; e < experts_; ++e) {
      if (!is_member(e)) continue;
      double value = base;
      if (mode_ == Mode::kSoft) value += static_cast<double>(original[e]);
      if (mode_ == Mode::kActivate) value += kTieBreak * rng_.normal();
      logits[e] = static_cast<float>(value);
    }
  }

  std::size_t k_;
  std::size_t experts_;
  Mode mode_;
  double lambda_;
  std::optional<std::vector<std::uint8_t>> members_;  // [layers, experts]; none: the resident ones
  std::pair<std::size_t, std::size_t> layers_;        // first and last that are steered
  bool softmax_;  // adding a number to the whole row changes nothing
  Rng rng_;
  AlteredLogits altered_;
};

MOESIM_REGISTER(
    RoutingPolicy, Steering, "steering",
    About("moves the logits of a given set of experts per layer, or of the resident ones",
          "Multilingual Routing in MoE, arXiv 2510.04694",
          [](std::size_t) {
            return Json{{"lambda", 0}};
          }),
    {"mode", "soft",
     "soft: z + lambda std(z); activate: max(z) + eps, eps ~ N(0, 1e-6); suppress: min(z)",
     "string", "soft|activate|suppress", "arXiv 2510.04694"},
    {"lambda", 0.5, "strength of the soft mode, below 0 to suppress; 0 = top_k", "number",
     "[-1, 1]", "arXiv 2510.04694; the default is that of its MGSM runs"},
    {"experts", "resident",
     "the experts to steer: an array with a list (or null) per MoE layer, or \"resident\"",
     "array or string", "[0, E)", "arXiv 2510.04694; resident: own, after the reference's 3.6"},
    {"file", nullptr, "a JSON file with the array, in the place of experts", "file",
     "a path, relative to the configuration", "own"},
    {"layers", nullptr, "[first, last] MoE layer to steer in, from 0; null: all", "array", "[0, L)",
     "arXiv 2510.04694 steers in middle layers"});

}  // namespace
}  // namespace moesim
