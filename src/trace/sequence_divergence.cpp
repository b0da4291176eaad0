#include "trace/sequence_divergence.h"

#include <algorithm>
#include <cmath>

namespace moesim {
namespace {

double entropy(std::span<const double> p) {
  double sum = 0;
  for (const double share : p) sum -= share > 0 ? share * std::log(share) : 0.0;
  return sum;
}

// Adds the routing weights of cells, each summing to 1.
class CellWeights {
 public:
  explicit CellWeights(const Trace& trace)
      : trace_(trace),
        by_sigmoid_(trace.gate().starts_with('D') || trace.gate().starts_with('E')),
        values_(trace.has_logits() ? trace.shape().experts : trace.recorded_k()),
        ids_(trace.recorded_k()) {}

  // False where the token does not visit the layer.
  bool add(std::size_t token, LayerId layer, std::span<double> sum) {
    std::size_t count = values_.size();
    if (trace_.has_logits()) {
      trace_.read_logits(token, layer, values_);
      const float largest = *std::max_element(values_.begin(), values_.end());
      for (float& value : values_) {
        value = by_sigmoid_ ? 1 / (1 + std::exp(-value)) : std::exp(value - largest);
      }
    } else {
      count = trace_.read_ids(token, layer, ids_);
      trace_.read_weights(token, layer, values_);
    }
    double total = 0;
    for (std::size_t i = 0; i < count; ++i) total += values_[i];
    if (!(total > 0)) return false;
    for (std::size_t i = 0; i < count; ++i) {
      sum[trace_.has_logits() ? i : index(ids_[i])] += values_[i] / total;
    }
    return true;
  }

 private:
  const Trace& trace_;
  bool by_sigmoid_;
  std::vector<float> values_;
  std::vector<ExpertId> ids_;
};

// [layers, experts]: the mean weights of the tokens [first, end); empty where a layer has none.
std::vector<double> mean_weights(const Trace& trace, CellWeights& cells, std::size_t first,
                                 std::size_t end) {
  const auto [tokens, layers, experts] = trace.shape();
  std::vector<double> means(layers * experts);
  for (std::size_t layer = 0; layer < layers; ++layer) {
    const auto row = std::span(means).subspan(layer * experts, experts);
    std::size_t visits = 0;
    for (std::size_t token = first; token < end; ++token) {
      if (cells.add(token, static_cast<LayerId>(layer), row)) ++visits;
    }
    if (visits == 0) return {};
    for (double& share : row) share /= static_cast<double>(visits);
  }
  return means;
}

}  // namespace

RoutingDivergence routing_divergence(std::span<const double> p, std::span<const double> q) {
  std::vector<double> middle(p.size());
  for (std::size_t e = 0; e < p.size(); ++e) middle[e] = (p[e] + q[e]) / 2;
  const double mean_entropy = (entropy(p) + entropy(q)) / 2;
  RoutingDivergence divergence;
  divergence.jensen_shannon = std::max(0.0, entropy(middle) - mean_entropy);
  if (divergence.jensen_shannon > 0) {
    divergence.normalised = divergence.jensen_shannon / mean_entropy;
  }
  return divergence;
}

std::optional<SequenceDivergence> sequence_divergence(const Trace& trace) {
  if (!trace.has_logits() && !trace.has_weights()) return std::nullopt;
  const auto [tokens, layers, experts] = trace.shape();
  CellWeights cells(trace);
  SequenceDivergence result;
  result.means.resize(layers);
  std::vector<double> reference;
  for (std::size_t first = 0; first < tokens;) {
    std::size_t end = first;
    while (end < tokens && trace.sequence(end) == trace.sequence(first)) ++end;
    const std::vector<double> means = mean_weights(trace, cells, first, end);
    if (means.empty()) return std::nullopt;
    if (first == 0) reference = means;
    for (std::size_t layer = 0; layer < layers && first > 0; ++layer) {
      const auto divergence =
          routing_divergence(std::span(reference).subspan(layer * experts, experts),
                             std::span(means).subspan(layer * experts, experts));
      result.means[layer].jensen_shannon += divergence.jensen_shannon;
      result.means[layer].normalised += divergence.normalised;
    }
    result.sequences += first > 0 ? 1 : 0;
    first = end;
  }
  if (result.sequences == 0) return std::nullopt;
  for (RoutingDivergence& mean : result.means) {
    mean.jensen_shannon /= static_cast<double>(result.sequences);
    mean.normalised /= static_cast<double>(result.sequences);
  }
  return result;
}

Json to_json(const std::optional<SequenceDivergence>& divergence) {
  if (!divergence) return nullptr;
  Json json = {{"sequences", divergence->sequences},
               {"jensen_shannon_by_layer", Json::array()},
               {"normalised_by_layer", Json::array()}};
  for (const RoutingDivergence& mean : divergence->means) {
    json["jensen_shannon_by_layer"].push_back(mean.jensen_shannon);
    json["normalised_by_layer"].push_back(mean.normalised);
  }
  return json;
}

}  // namespace moesim
