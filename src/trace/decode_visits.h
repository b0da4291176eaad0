// The experts that each decode token uses in each layer, taken out of a trace in one pass: the
// accesses that the locality diagnostics count.
//
// A visit is one token at one layer. Prefill tokens are left out, and so are visits whose cell is
// absent: a layer's stream of visits closes up around them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/ids.h"
#include "trace/trace.h"

namespace moesim {

// Experts of one visit, best first.
using VisitIds = std::span<const std::uint16_t>;

class DecodeVisits {
 public:
  // Takes the k best of each visit: recorded ids where the trace has that many, else the k largest
  // logits (a selection bias and groups of experts are not applied). k = 0 stands for the trace's
  // top_k, or the ids of a cell. Throws UserError where the trace gives no k, or less than k ids
  // and no logits.
  static DecodeVisits of(const Trace& trace, std::size_t k = 0);

  // Decode tokens, layers, experts.
  [[nodiscard]] const RoutingShape& shape() const { return shape_; }
  [[nodiscard]] std::size_t k() const { return k_; }
  [[nodiscard]] bool from_ids() const { return from_ids_; }
  // Sequences that have a decode token.
  [[nodiscard]] std::size_t sequences() const { return sequence_starts_.size() - 1; }

  // `token` counts decode tokens. Empty where the token does not visit the layer.
  [[nodiscard]] VisitIds visit(std::size_t token, std::size_t layer) const {
    const std::size_t cell = token * shape_.layers + layer;
    return {ids_.data() + cell * k_, counts_[cell]};
  }
  // The visits that one sequence makes to one layer, in order.
  [[nodiscard]] std::vector<VisitIds> stream(std::size_t sequence, std::size_t layer) const;

 private:
  RoutingShape shape_;
  std::size_t k_ = 0;
  bool from_ids_ = false;
  std::vector<std::uint16_t> ids_;            // [tokens, layers, k]
  std::vector<std::uint16_t> counts_;         // [tokens, layers]: ids present
  std::vector<std::size_t> sequence_starts_;  // first token of each sequence, then the end
};

}  // namespace moesim
