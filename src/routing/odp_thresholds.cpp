// Reads the thresholds of online dynamic pruning, or takes the medians of w_r / w_0 over the decode
// tokens of the trace, per layer and rank (arXiv 2410.06270 after arXiv 2402.14800), or those that
// the authors shipped for Mixtral-8x7B.
#include "routing/odp_thresholds.h"

#include <fmt/format.h>

#include <array>
#include <cstdint>
#include <string>

#include "core/errors.h"
#include "routing/trace_cells.h"
#include "routing/weight_ranks.h"
#include "trace/trace.h"

namespace moesim {
namespace {

constexpr const char* kMedian = "per-rank median";
constexpr const char* kPublished = "published";

// A configured array and where it stands.
struct Place {
  const Section& section;
  std::string key;  // "mu", "mu/3"

  [[nodiscard]] UserError error(const std::string& expected, const Json& got) const {
    return user_error(section.file() + ": " + section.pointer() + "/" + key,
                      "expected " + expected + ", got " + got.dump());
  }
  [[nodiscard]] Place element(std::size_t i) const {
    return {section, fmt::format("{}/{}", key, i)};
  }
  [[nodiscard]] double share(const Json& value) const {
    if (!value.is_number() || !kUnitInterval.contains(value.get<double>())) {
      throw error(kUnitInterval.text(), value);
    }
    return value.get<double>();
  }
  void require_length(const Json& array, std::size_t length, const char* of_what) const {
    if (array.size() == length) return;
    throw user_error(
        section.file() + ": " + section.pointer() + "/" + key,
        fmt::format("expected {} elements, one per {}, got {}", length, of_what, array.size()));
  }
};

// One layer's thresholds: a number for all ranks or an array with one per rank beyond the best.
void append_layer(const Place& place, const Json& value, std::size_t ranks,
                  std::vector<double>& thresholds) {
  if (!value.is_array()) {
    thresholds.insert(thresholds.end(), ranks, place.share(value));
    return;
  }
  place.require_length(value, ranks, "rank beyond the best");
  for (std::size_t r = 0; r < ranks; ++r) {
    thresholds.push_back(place.element(r).share(value[r]));
  }
}

std::vector<double> configured(const Place& place, const Json& value,
                               const RoutingContext& context) {
  const std::size_t layers = context.shape.layers;
  std::vector<double> thresholds;
  if (value.is_array()) place.require_length(value, layers, "MoE layer");
  if (!value.is_array() && !value.is_number()) {
    throw place.error(
        std::string("a number in [0, 1], one per layer, [layers][k - 1]") +
            (place.key == "thresholds" ? ", \"per-rank median\" or \"published\"" : ""),
        value);
  }
  for (std::size_t layer = 0; layer < layers; ++layer) {
    if (value.is_array()) {
      append_layer(place.element(layer), value[layer], context.k - 1, thresholds);
    } else {
      append_layer(place, value, context.k - 1, thresholds);
    }
  }
  return thresholds;
}

std::vector<double> medians(const Trace& trace, const RoutingContext& context) {
  TraceCells cells(trace, context);
  WeightRanks ranks(context.k);
  std::vector<std::vector<double>> ratios(context.k - 1);  // [k - 1][tokens]
  std::vector<double> thresholds;
  thresholds.reserve(context.shape.layers * ratios.size());
  for (std::size_t l = 0; l < context.shape.layers; ++l) {
    for (auto& of_rank : ratios) of_rank.clear();
    cells.for_each(static_cast<LayerId>(l), [&](Gate& gate) {
      const Selection& native = gate.native();
      const std::span<const std::size_t> order = ranks.by_weight(native);
      for (std::size_t r = 1; r < order.size(); ++r) {
        ratios[r - 1].push_back(
            weight_ratio(native.weights[order[r]], native.weights[order.front()]));
      }
    });
    for (auto& of_rank : ratios) thresholds.push_back(median(of_rank, 0));
  }
  return thresholds;
}

// Mixtral-8x7B, as shipped with the authors' code, github Aaronhuang-778/MC-MoE.
constexpr std::array<double, 32> kMixtral = {
    0.402, 0.494, 0.463, 0.484, 0.478, 0.491, 0.523, 0.521, 0.544, 0.570, 0.574,
    0.489, 0.503, 0.618, 0.568, 0.535, 0.559, 0.519, 0.537, 0.487, 0.469, 0.461,
    0.461, 0.469, 0.458, 0.418, 0.433, 0.418, 0.406, 0.433, 0.447, 0.535};

std::vector<double> published(const Section& config, const RoutingContext& context) {
  if (context.shape.layers != kMixtral.size() || context.k != 2) {
    throw config.error("thresholds",
                       fmt::format("the published thresholds are those of Mixtral-8x7B, {} layers "
                                   "and k = 2; here are {} layers and k = {}",
                                   kMixtral.size(), context.shape.layers, context.k));
  }
  return {kMixtral.begin(), kMixtral.end()};
}

// The released code prunes only in the blocks where that costs least: ten in its README, twenty by
// default (block_range).
constexpr std::array<std::size_t, 10> kTen = {11, 13, 14, 22, 23, 24, 25, 26, 27, 28};
constexpr std::array<std::size_t, 20> kTwenty = {6,  8,  9,  10, 11, 12, 13, 14, 15, 16,
                                                 17, 20, 21, 22, 23, 24, 25, 26, 27, 28};

std::vector<bool> listed_layers(const Section& config, const Json& list, std::size_t layers) {
  std::vector<bool> pruned(layers, false);
  for (const Json& layer : list) {
    const bool whole = layer.is_number_integer() && layer.get<std::int64_t>() >= 0;
    if (!whole || layer.get<std::size_t>() >= layers) {
      throw config.error("blocks", fmt::format("expected MoE layers in [0, {}], got {}", layers - 1,
                                               layer.dump()));
    }
    pruned[layer.get<std::size_t>()] = true;
  }
  return pruned;
}

// [layers]: whether experts of the layer may be dropped.
std::vector<bool> pruned_layers(Section& config, std::size_t layers) {
  if (!config.has("blocks")) return std::vector<bool>(layers, true);
  const Json& blocks = config.raw("blocks");
  if (blocks.is_array()) return listed_layers(config, blocks, layers);
  const std::string name = config.choice("blocks", {"all", "ten", "twenty"});
  if (name == "all") return std::vector<bool>(layers, true);
  if (layers != kMixtral.size()) {
    throw config.error("blocks", fmt::format("the block set {} is of Mixtral-8x7B, {} layers; here "
                                             "are {}",
                                             name, kMixtral.size(), layers));
  }
  std::vector<bool> pruned(layers, false);
  const auto mark = [&](const auto& set) {
    for (const std::size_t layer : set) pruned[layer] = true;
  };
  if (name == "ten") {
    mark(kTen);
  } else {
    mark(kTwenty);
  }
  return pruned;
}

std::vector<double> read_all_layers(Section& config, const RoutingContext& context) {
  if (config.has("mu")) return configured({config, "mu"}, config.raw("mu"), context);
  if (config.has("thresholds")) {
    const Json& thresholds = config.raw("thresholds");
    if (thresholds == kPublished) return published(config, context);
    if (thresholds != kMedian) return configured({config, "thresholds"}, thresholds, context);
  }
  if (context.trace == nullptr) {
    throw config.error("mu", "expected thresholds, for there is no trace to take medians of");
  }
  const Trace& trace = *context.trace;
  if (!trace.has_logits() && !(trace.has_ids() && trace.has_weights())) {
    throw config.error("policy",
                       "odp needs topk_weights, which the trace " + trace.shown() + " lacks");
  }
  return medians(trace, context);
}

}  // namespace

std::vector<double> read_odp_thresholds(Section& config, const RoutingContext& context) {
  if (context.gate.code == GateCode::kF) {
    throw config.error("policy",
                       "odp judges ratios of weights, which mean nothing for gate F (SparseMixer)");
  }
  if (config.has("mu") && config.has("thresholds")) {
    throw config.error("thresholds", "expected either mu or thresholds, got both");
  }
  const std::vector<bool> pruned = pruned_layers(config, context.shape.layers);
  std::vector<double> thresholds = read_all_layers(config, context);
  const std::size_t ranks = std::max<std::size_t>(context.k - 1, 1);  // k = 1: no thresholds
  for (std::size_t i = 0; i < thresholds.size(); ++i) {
    if (!pruned[i / ranks]) thresholds[i] = 0;
  }
  return thresholds;
}

}  // namespace moesim
