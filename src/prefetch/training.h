// The part of a trace that a predictor learns from.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "prefetch/limits.h"
#include "routing/gate.h"

namespace moesim {

class Trace;

// The first decoded tokens of a trace.
struct TrainingPart {
  std::size_t tokens = 0;
  std::vector<std::uint32_t> rows;  // [tokens], rows of the trace, increasing
  [[nodiscard]] std::uint32_t end_row() const { return rows.empty() ? 0 : rows.back() + 1; }
};

inline Parameter train_fraction_parameter(const std::string& otherwise) {
  return {"train_fraction",
          nullptr,
          "share of the trace's decoded tokens, from the first on, to train on; null: " + otherwise,
          "number",
          "(0, 1]",
          "own"};
}
inline Parameter train_tokens_parameter() {
  return {"train_tokens", nullptr,       "the same as a number of tokens",
          "integer",      "[1, tokens]", "own"};
}

// True where the configuration says what to train on.
inline bool gives_training(const Section& config) {
  return config.has("train_fraction") || config.has("train_tokens");
}

// Reads `train_fraction` and `train_tokens`; without both the decoded tokens before the first
// measured one, so that nothing is trained on what is evaluated. Throws UserError for both at
// once, for more tokens than there are, for no trace and where no token is left to train on.
TrainingPart read_training(Section& config, const PrefetchContext& context);

// Reads the model's own selection of single cells of a trace.
class NativeReader {
 public:
  explicit NativeReader(const PrefetchContext& context);
  // Best first; empty where the token does not visit the layer. Valid until the next call.
  std::span<const ExpertId> read(std::uint32_t row, LayerId layer);

 private:
  const Trace* trace_;
  Gate gate_;
  std::vector<float> logits_;   // [experts]
  std::vector<ExpertId> ids_;   // [recorded k]
  std::vector<float> weights_;  // [recorded k]
};

}  // namespace moesim
