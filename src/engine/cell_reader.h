// Sets a gate to one cell of a trace: the router's logits or the recorded experts of one token at
// one layer.
#pragma once

#include <cstddef>
#include <vector>

#include "core/ids.h"
#include "routing/gate.h"
#include "trace/trace.h"

namespace moesim {

class CellReader {
 public:
  // `trace` must outlive the reader.
  explicit CellReader(const Trace& trace)
      : trace_(&trace),
        logits_(trace.shape().experts),
        ids_(trace.recorded_k()),
        weights_(trace.recorded_k()) {}

  // The gate refers to this reader's memory until the next call. False, with the gate as it was,
  // where the token does not visit the layer.
  bool set(Gate& gate, std::size_t token, LayerId layer);

 private:
  const Trace* trace_;
  std::vector<float> logits_;   // [experts]
  std::vector<ExpertId> ids_;   // [recorded k]
  std::vector<float> weights_;  // [recorded k]
};

}  // namespace moesim
