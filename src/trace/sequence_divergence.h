// How differently two texts are routed, layer by layer (Multilingual Routing in MoE, arXiv
// 2510.04694, which compares a text with its English parallel).
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "config/json_file.h"
#include "trace/trace.h"

namespace moesim {

struct RoutingDivergence {
  double jensen_shannon = 0;  // natural logarithm
  // Divided by the mean of the two entropies; 0 where both are 0 and equal. The published
  // normaliser is not known for certain; this is the reference's choice.
  double normalised = 0;
};

// REQUIRES: equal lengths, each sums to 1.
RoutingDivergence routing_divergence(std::span<const double> p, std::span<const double> q);

struct SequenceDivergence {
  std::size_t sequences = 0;             // compared with the first one
  std::vector<RoutingDivergence> means;  // [layers], over them
};

// Each sequence of the trace against its first, by the mean over a sequence's tokens (prefill
// included) of the routing weights: probabilities of all experts (sigmoids, normalised, for gates D
// and E), or the recorded weights divided by their sum. Nullopt where the trace has one sequence,
// or neither logits nor weights, or a layer that some sequence never visits.
std::optional<SequenceDivergence> sequence_divergence(const Trace& trace);

// Null where there is nothing.
Json to_json(const std::optional<SequenceDivergence>& divergence);

}  // namespace moesim
