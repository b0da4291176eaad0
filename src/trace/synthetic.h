// A seeded generator of router logits, for tests and for studies that vary one property of a trace
// at a time.
//
// Left out: anything that a trained router has beyond popularity, persistence and noise, such as
// correlation between experts, between layers, or with the text.
#pragma once

#include <cstddef>
#include <cstdint>

#include "trace/trace_writer.h"

namespace moesim {

enum class SyntheticKind {
  // z = skew * b[layer][expert] + locality * s[token] + noise * exp(burst * t[token]) * n[token],
  // all
  // standard normal; b is fixed, n independent, t one number for all layers and experts of a token,
  // and s an AR(1) process per expert with correlation `persistence` from one token to the next,
  // drawn
  // afresh for each sequence.
  kDrift,
  // z = offset[token / segment_tokens][expert] + u, offset and u uniform in [-2, 2) on a grid of
  // 2^-22: the generator of cache_aware_routing.md, section 7.2. One stream of random numbers for
  // all layers, so that layer 0 does not depend on how many follow.
  kSegments,
};

struct SyntheticOptions {
  SyntheticKind kind = SyntheticKind::kDrift;
  std::uint64_t seed = 1;
  std::size_t tokens = 1024;  // in all sequences together
  std::size_t layers = 16;
  std::size_t experts = 64;
  std::size_t k = 8;
  std::size_t sequences = 1;       // of equal length; the first are longer by one where need be
  std::size_t prefill_tokens = 0;  // at the start of each sequence
  double skew = 0.5;               // drift only, in logits
  double locality = 1.0;           // drift only, in logits
  double persistence = 0.9;        // drift only, in [0, 1)
  double noise = 0.5;              // drift only, in logits
  double burst = 0.0;  // drift only: some tokens are more surprising than others, in all layers
  std::size_t segment_tokens = 16;  // segments only
};

// Equal options give equal data. F16 logits for drift, F32 for segments, whose grid needs 24 bits.
// Throws UserError for options that contradict each other.
TraceData synthetic_trace(const SyntheticOptions& options);

}  // namespace moesim
