// The factors of an expert that PMQ takes from routing (MC-MoE, arXiv 2410.06270, section 3.2).
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "model/gate_spec.h"
#include "trace/trace.h"

namespace moesim {

struct ExpertFactors {
  // [layers, experts], each divided by its sum over the layer, as the authors' code does:
  std::vector<double> frequency;  // phi: how often the model's own routing selects the expert
  // w: routing weights summed over the tokens that select the expert. Empty where a compact trace
  // has no weights.
  std::vector<double> weight;
  std::string weight_source;  // what `weight` was summed from, for people
};

// Counts the tokens of the trace, prompt tokens included (PMQ calibrates on whole texts), at most
// `max_tokens` rows. The weight of a selected expert is its probability among all experts, before
// any renormalisation over the selected (gates D, E: the sigmoid divided by the sum of all), as in
// the authors' code; a compact trace has only its recorded weights, which may be renormalised.
// A layer that no token visits has factors 0.
ExpertFactors measure_factors(const Trace& trace, const GateSpec& gate, std::size_t k,
                              std::optional<std::size_t> max_tokens);

}  // namespace moesim
