// Traces of several sequences.
#pragma once

#include <vector>

#include "support/scenario.h"

namespace moesim::test {

struct SequenceLength {
  std::size_t prefill = 0;
  std::size_t decode = 0;
};

// Random logits (4 layers, 16 experts, k = 4) of sequences of these lengths, numbered from 0.
inline TraceData random_streams(const std::vector<SequenceLength>& lengths, std::uint64_t seed) {
  std::vector<std::int32_t> sequence;
  std::vector<std::uint8_t> phase;
  for (std::size_t s = 0; s < lengths.size(); ++s) {
    const auto [prefill, decode] = lengths[s];
    sequence.insert(sequence.end(), prefill + decode, static_cast<std::int32_t>(s));
    phase.insert(phase.end(), prefill, 0);
    phase.insert(phase.end(), decode, 1);
  }
  TraceData trace = random_logits({sequence.size(), 4, 16}, 4, seed);
  trace.sequence = sequence;
  trace.phase = phase;
  return trace;
}

// `copies` sequences, each of which is the same random one.
inline TraceData equal_streams(std::size_t tokens, std::size_t copies, std::uint64_t seed) {
  TraceData one = random_streams({{0, tokens}}, seed);
  TraceData trace = random_streams(std::vector<SequenceLength>(copies, {0, tokens}), seed);
  trace.logits.clear();
  for (std::size_t copy = 0; copy < copies; ++copy) {
    trace.logits.insert(trace.logits.end(), one.logits.begin(), one.logits.end());
  }
  return trace;
}

}  // namespace moesim::test
