#include "engine/cell_reader.h"

#include <span>

namespace moesim {

bool CellReader::set(Gate& gate, std::size_t token, LayerId layer) {
  if (trace_->has_logits()) {
    trace_->read_logits(token, layer, logits_);
    gate.set_logits(logits_, trace_->selection_bias(layer));
    return true;
  }
  const std::size_t count = trace_->read_ids(token, layer, ids_);
  if (count == 0) return false;
  std::span<const float> weights;
  if (trace_->has_weights()) {
    trace_->read_weights(token, layer, weights_);
    weights = std::span(weights_).first(count);
  }
  gate.set_recorded(std::span(ids_).first(count), weights);
  return true;
}

}  // namespace moesim
