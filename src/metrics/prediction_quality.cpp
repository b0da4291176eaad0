#include "metrics/prediction_quality.h"

namespace moesim {

PredictionQuality::PredictionQuality(const RoutingShape& shape)
    : shape_(shape),
      stamps_(shape.layers * shape.experts),
      recall_sums_(shape.layers),
      visits_(shape.layers) {}

void PredictionQuality::add(LayerId layer, std::span<const Access> accesses,
                            std::span<const ExpertKey> predicted) {
  ++visit_;
  ++visits_[index(layer)];
  if (accesses.empty() || predicted.empty()) return;
  ++predicted_;
  named_ += predicted.size();
  for (const ExpertKey key : predicted) stamps_[index(key)] = visit_;
  std::uint64_t right = 0;
  for (const Access& access : accesses) {
    right += stamps_[index(expert_key(layer, access.expert, shape_.experts))] == visit_ ? 1 : 0;
  }
  right_ += right;
  recall_sums_[index(layer)] += static_cast<double>(right) / static_cast<double>(accesses.size());
}

// ExpertFlow's B_acc (routing_and_compression.md 2.1): recall of a visit, averaged over layers.
PredictionResult PredictionQuality::result() const {
  PredictionResult result;
  result.visits = visit_;
  result.predicted = predicted_;
  result.named = named_;
  result.right = right_;
  result.by_layer.reserve(shape_.layers);
  std::size_t visited_layers = 0;
  for (std::size_t layer = 0; layer < shape_.layers; ++layer) {
    const bool visited = visits_[layer] > 0;
    result.by_layer.push_back(visited ? recall_sums_[layer] / static_cast<double>(visits_[layer])
                                      : 0.0);
    visited_layers += visited ? 1 : 0;
    result.recall += result.by_layer.back();
  }
  if (visited_layers > 0) result.recall /= static_cast<double>(visited_layers);
  if (named_ > 0) result.precision = static_cast<double>(right_) / static_cast<double>(named_);
  return result;
}

}  // namespace moesim
