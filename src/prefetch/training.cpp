#include "prefetch/training.h"

#include <fmt/format.h>

#include <cmath>

#include "core/errors.h"
#include "trace/trace.h"

namespace moesim {
namespace {

std::vector<std::uint32_t> decoded_rows(const Trace& trace) {
  std::vector<std::uint32_t> rows;
  rows.reserve(trace.shape().tokens);
  for (std::size_t token = 0; token < trace.shape().tokens; ++token) {
    if (trace.phase(token) == Phase::kDecode) rows.push_back(static_cast<std::uint32_t>(token));
  }
  return rows;
}

}  // namespace

TrainingPart read_training(Section& config, const PrefetchContext& context) {
  if (context.trace == nullptr) throw InvariantError("a predictor to train needs the trace");
  if (config.has("train_fraction") && config.has("train_tokens")) {
    throw config.error("train_tokens", "expected one of train_fraction and train_tokens, got both");
  }
  TrainingPart part;
  part.rows = decoded_rows(*context.trace);
  const std::size_t all = part.rows.size();
  if (const auto tokens =
          config.optional_integer("train_tokens", 1, std::max<std::size_t>(all, 1))) {
    part.tokens = *tokens;
  } else if (config.has("train_fraction")) {
    // The slack undoes the error of a decimal fraction in binary: 0.7 of 1440 is 1008.
    part.tokens = static_cast<std::size_t>(std::floor(
        config.number("train_fraction", {0.0, 1.0, true}) * static_cast<double>(all) + 1e-6));
  } else {
    part.tokens = static_cast<std::size_t>(
        std::lower_bound(part.rows.begin(), part.rows.end(), context.first_measured) -
        part.rows.begin());
  }
  if (part.tokens == 0) {
    throw config.error("train_fraction",
                       "expected something to train on, got nothing: give train_fraction or "
                       "train_tokens, or trace.warmup_tokens, which are trained on otherwise");
  }
  part.rows.resize(part.tokens);
  return part;
}

NativeReader::NativeReader(const PrefetchContext& context)
    : trace_(context.trace),
      gate_(context.gate, context.shape.experts, context.k),
      logits_(context.shape.experts),
      ids_(context.trace->recorded_k()),
      weights_(context.trace->recorded_k()) {}

std::span<const ExpertId> NativeReader::read(std::uint32_t row, LayerId layer) {
  if (trace_->has_logits()) {
    trace_->read_logits(row, layer, logits_);
    gate_.set_logits(logits_, trace_->selection_bias(layer));
    return gate_.native().ids;
  }
  const std::size_t count = trace_->read_ids(row, layer, ids_);
  if (count == 0) return {};
  std::span<const float> weights;
  if (trace_->has_weights()) {
    trace_->read_weights(row, layer, weights_);
    weights = std::span(weights_).first(count);
  }
  gate_.set_recorded(std::span(ids_).first(count), weights);
  return gate_.native().ids;
}

}  // namespace moesim
