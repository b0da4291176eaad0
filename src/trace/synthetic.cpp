#include "trace/synthetic.h"

#include <fmt/format.h>

#include <cmath>
#include <string>
#include <vector>

#include "core/errors.h"
#include "core/rng.h"
#include "trace/trace.h"

namespace moesim {
namespace {

void require(bool holds, const std::string& option, const std::string& expected,
             const std::string& got) {
  if (!holds) {
    throw user_error("synthetic trace: " + option,
                     fmt::format("expected {}, got {}", expected, got));
  }
}

void check_count(const std::string& option, std::size_t value, std::size_t most) {
  require(value >= 1 && value <= most, option, fmt::format("an integer in [1, {}]", most),
          std::to_string(value));
}

void check_options(const SyntheticOptions& options) {
  constexpr std::size_t kMostIds = 65535;
  constexpr std::size_t kMostTokens = std::size_t{1} << 31U;
  check_count("tokens", options.tokens, kMostTokens);
  check_count("layers", options.layers, kMostIds);
  check_count("experts", options.experts, kMostIds);
  // 8 GiB while the trace is made; the three limits above keep the product within 64 bits.
  check_count("tokens x layers x experts", options.tokens * options.layers * options.experts,
              std::size_t{1} << 31U);
  check_count("top_k", options.k, options.experts);
  check_count("sequences", options.sequences, options.tokens);
  check_count("segment_tokens", options.segment_tokens, kMostTokens);
  const std::size_t shortest = options.tokens / options.sequences;
  require(options.prefill_tokens < shortest, "prefill_tokens",
          fmt::format("less than the {} tokens of a sequence", shortest),
          std::to_string(options.prefill_tokens));
  require(options.persistence >= 0.0 && options.persistence < 1.0, "persistence",
          "a number in [0, 1)", fmt::format("{}", options.persistence));
  const auto check_spread = [](const std::string& option, double value) {
    // Beyond this the sum might not fit a half.
    constexpr double kMost = 1000.0;
    require(value >= 0.0 && value <= kMost, option, fmt::format("a number in [0, {}]", kMost),
            fmt::format("{}", value));
  };
  check_spread("skew", options.skew);
  check_spread("locality", options.locality);
  check_spread("noise", options.noise);
  require(options.burst >= 0.0 && options.burst <= 3.0, "burst", "a number in [0, 3]",
          fmt::format("{}", options.burst));
}

// [tokens], the spread of the noise of each; a stream of its own, so that burst 0 changes nothing.
std::vector<double> noise_of_tokens(const SyntheticOptions& options) {
  std::vector<double> noise(options.tokens, options.noise);
  if (options.burst == 0.0) return noise;
  Rng rng = Rng::for_component(options.seed, "synthetic bursts");
  for (double& spread : noise) spread *= std::exp(options.burst * rng.normal());
  return noise;
}

void draw_drift_layer(const SyntheticOptions& options, const std::vector<double>& noise,
                      std::size_t layer, TraceData& data) {
  Rng rng = Rng::for_component(options.seed, "synthetic layer " + std::to_string(layer));
  const std::size_t experts = options.experts;
  std::vector<double> popularity(experts);
  std::vector<double> state(experts);
  for (double& value : popularity) value = options.skew * rng.normal();
  // Keeps the variance of the state at one.
  const double innovation = std::sqrt(1.0 - options.persistence * options.persistence);
  for (std::size_t token = 0; token < options.tokens; ++token) {
    const bool starts = token == 0 || data.sequence[token] != data.sequence[token - 1];
    float* const row = data.logits.data() + (token * options.layers + layer) * experts;
    for (std::size_t expert = 0; expert < experts; ++expert) {
      double& s = state[expert];
      s = starts ? rng.normal() : options.persistence * s + innovation * rng.normal();
      row[expert] = static_cast<float>(popularity[expert] + options.locality * s +
                                       noise[token] * rng.normal());
    }
  }
}

void draw_segments_layer(const SyntheticOptions& options, std::size_t layer, Rng& rng,
                         TraceData& data) {
  const std::size_t experts = options.experts;
  const auto uniform = [&rng] {
    return static_cast<float>(static_cast<double>(rng.next() >> 40U) / 0x1.0p22 - 2.0);
  };
  const std::size_t segments =
      (options.tokens + options.segment_tokens - 1) / options.segment_tokens;
  std::vector<float> offsets(segments * experts);
  for (float& offset : offsets) offset = uniform();
  for (std::size_t token = 0; token < options.tokens; ++token) {
    const float* const offset = offsets.data() + token / options.segment_tokens * experts;
    float* const row = data.logits.data() + (token * options.layers + layer) * experts;
    for (std::size_t expert = 0; expert < experts; ++expert) {
      row[expert] = offset[expert] + uniform();
    }
  }
}

// Fills sequence always and phase where there is a prefill.
void lay_out_sequences(const SyntheticOptions& options, TraceData& data) {
  const std::size_t shortest = options.tokens / options.sequences;
  const std::size_t longer = options.tokens % options.sequences;
  for (std::size_t sequence = 0; sequence < options.sequences; ++sequence) {
    const std::size_t length = shortest + (sequence < longer ? 1 : 0);
    for (std::size_t position = 0; position < length; ++position) {
      data.sequence.push_back(static_cast<std::int32_t>(sequence));
      if (options.prefill_tokens > 0) {
        data.phase.push_back(position < options.prefill_tokens ? 0 : 1);
      }
    }
  }
}

std::string provenance(const SyntheticOptions& options) {
  if (options.kind == SyntheticKind::kSegments) {
    return fmt::format("synthetic: segments of {} tokens, seed {}", options.segment_tokens,
                       options.seed);
  }
  const std::string burst = options.burst > 0 ? fmt::format(", burst {}", options.burst) : "";
  return fmt::format("synthetic: drift, skew {}, locality {}, persistence {}, noise {}{}, seed {}",
                     options.skew, options.locality, options.persistence, options.noise, burst,
                     options.seed);
}

}  // namespace

TraceData synthetic_trace(const SyntheticOptions& options) {
  check_options(options);
  TraceData data;
  data.shape = {options.tokens, options.layers, options.experts};
  data.logits_dtype = options.kind == SyntheticKind::kSegments ? "F32" : "F16";
  data.logits.resize(options.tokens * options.layers * options.experts);
  lay_out_sequences(options, data);
  Rng stream(options.seed);
  const std::vector<double> noise = noise_of_tokens(options);
  for (std::size_t layer = 0; layer < options.layers; ++layer) {
    if (options.kind == SyntheticKind::kSegments) {
      draw_segments_layer(options, layer, stream, data);
    } else {
      draw_drift_layer(options, noise, layer, data);
    }
  }
  data.metadata = {{"model", kSyntheticModel},
                   {"top_k", std::to_string(options.k)},
                   {"gate", "B"},
                   {"ranked", "1"},
                   {"provenance", provenance(options)}};
  return data;
}

}  // namespace moesim
