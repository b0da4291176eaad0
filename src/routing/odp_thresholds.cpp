// Reads the thresholds of online dynamic pruning, or takes the medians of w_r / w_0 over the decode
// tokens of the trace, per layer and rank (arXiv 2410.06270 after arXiv 2402.14800).
#include "routing/odp_thresholds.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "core/errors.h"
#include "trace/trace.h"

namespace moesim {
namespace {

constexpr const char* kMedian = "per-rank median";

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
    throw place.error(std::string("a number in [0, 1], one per layer, [layers][k - 1]") +
                          (place.key == "thresholds" ? " or \"per-rank median\"" : ""),
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

// Sets a gate to the cells of a trace, one after the other.
class CellReader {
 public:
  CellReader(const Trace& trace, const RoutingContext& context)
      : trace_(trace),
        gate_(context.gate, context.shape.experts, context.k),
        logits_(trace.has_logits() ? context.shape.experts : 0),
        ids_(trace.recorded_k()),
        weights_(trace.recorded_k()) {}

  // The native selection; empty where the token does not visit the layer.
  const Selection& native(std::size_t token, LayerId layer) {
    if (trace_.has_logits()) {
      trace_.read_logits(token, layer, logits_);
      gate_.set_logits(logits_, trace_.selection_bias(layer));
    } else {
      const std::size_t count = trace_.read_ids(token, layer, ids_);
      trace_.read_weights(token, layer, weights_);
      gate_.set_recorded(std::span(ids_).first(count), std::span(weights_).first(count));
    }
    return gate_.native();
  }

 private:
  const Trace& trace_;
  Gate gate_;
  std::vector<float> logits_;   // [experts]
  std::vector<ExpertId> ids_;   // [recorded k]
  std::vector<float> weights_;  // [recorded k]
};

// Of an even count the mean of the two middle values; 0, which drops nothing, of none.
double median(std::vector<double>& values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2 == 1) return *middle;
  return (*middle + *std::max_element(values.begin(), middle)) / 2;
}

std::vector<double> medians(const Trace& trace, const RoutingContext& context) {
  CellReader cells(trace, context);
  WeightRanks ranks(context.k);
  std::vector<std::vector<double>> ratios(context.k - 1);  // [k - 1][tokens]
  std::vector<double> thresholds;
  for (std::size_t l = 0; l < context.shape.layers; ++l) {
    for (auto& of_rank : ratios) of_rank.clear();
    for (std::size_t token = 0; token < trace.shape().tokens; ++token) {
      if (trace.phase(token) != Phase::kDecode) continue;
      const Selection& native = cells.native(token, static_cast<LayerId>(l));
      if (native.ids.empty()) continue;
      const std::span<const std::size_t> order = ranks.by_weight(native);
      for (std::size_t r = 1; r < order.size(); ++r) {
        ratios[r - 1].push_back(
            weight_ratio(native.weights[order[r]], native.weights[order.front()]));
      }
    }
    for (auto& of_rank : ratios) thresholds.push_back(median(of_rank));
  }
  return thresholds;
}

}  // namespace

std::span<const std::size_t> WeightRanks::by_weight(const Selection& selection) {
  order_.clear();
  for (std::size_t i = 0; i < selection.ids.size(); ++i) {
    order_.push_back(i);
    std::size_t place = i;
    for (; place > 0 && selection.weights[i] > selection.weights[order_[place - 1]]; --place) {
      order_[place] = order_[place - 1];
    }
    order_[place] = i;
  }
  return order_;
}

std::vector<double> read_odp_thresholds(Section& config, const RoutingContext& context) {
  if (context.gate.code == GateCode::kF) {
    throw config.error("policy",
                       "odp judges ratios of weights, which mean nothing for gate F (SparseMixer)");
  }
  if (config.has("mu") && config.has("thresholds")) {
    throw config.error("thresholds", "expected either mu or thresholds, got both");
  }
  if (config.has("mu")) return configured({config, "mu"}, config.raw("mu"), context);
  if (config.has("thresholds") && config.raw("thresholds") != kMedian) {
    return configured({config, "thresholds"}, config.raw("thresholds"), context);
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

}  // namespace moesim
