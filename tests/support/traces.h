// Small traces and malformed files for tests.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "core/rng.h"
#include "trace/safetensors_writer.h"
#include "trace/trace.h"
#include "trace/trace_writer.h"

namespace moesim::test {

// A file with exactly this header and `data_bytes` zero bytes after it; `length` overrides the
// header length that the file claims.
inline std::vector<std::byte> raw_safetensors(const std::string& header, std::size_t data_bytes,
                                              std::uint64_t length) {
  std::vector<std::byte> image(sizeof(length) + header.size() + data_bytes);
  std::memcpy(image.data(), &length, sizeof(length));
  if (!header.empty()) std::memcpy(image.data() + sizeof(length), header.data(), header.size());
  return image;
}
inline std::vector<std::byte> raw_safetensors(const std::string& header, std::size_t data_bytes) {
  return raw_safetensors(header, data_bytes, header.size());
}

// One tensor out of a list of values.
template <class T>
TensorToWrite tensor_of(const std::string& name, DType dtype, std::vector<std::size_t> shape,
                        const std::vector<T>& values) {
  return {name, dtype, std::move(shape), bytes_of(std::span<const T>(values))};
}

inline std::map<std::string, std::string> trace_metadata() {
  return {{"format", "moesim.trace"}, {"version", "1"}};
}

// A trace of these tensors, with the two metadata keys that must be there.
inline Trace trace_of(std::vector<TensorToWrite> tensors,
                      const std::map<std::string, std::string>& metadata = trace_metadata()) {
  return Trace::from_bytes(safetensors_image(std::move(tensors), metadata), "t.safetensors");
}

// Random values in every tensor of the format, some cells of the compact form absent. Logits and
// next-layer logits are multiples of 1/8 below 16 in size, so that each float type holds them.
inline TraceData random_trace_data(std::uint64_t seed) {
  Rng rng(seed);
  const auto eighths = [&rng](std::size_t count) {
    std::vector<float> values(count);
    for (float& value : values) value = (static_cast<float>(rng.below(256)) - 128.0F) / 8.0F;
    return values;
  };
  TraceData data;
  data.shape = {1 + rng.below(12), 1 + rng.below(4), 2 + rng.below(rng.below(2) == 0 ? 20 : 400)};
  const auto [tokens, layers, experts] = data.shape;
  data.logits_dtype = std::vector<std::string>{"F16", "BF16", "F32"}[rng.below(3)];
  data.logits = eighths(tokens * layers * experts);
  data.next_layer_logits = eighths(tokens * layers * experts);
  data.k = 1 + rng.below(experts < 6 ? experts : 6);
  for (std::size_t cell = 0; cell < tokens * layers; ++cell) {
    const std::size_t present = rng.below(data.k + 1);
    const std::size_t first = rng.below(experts);
    for (std::size_t slot = 0; slot < data.k; ++slot) {
      data.ids.push_back(slot < present ? static_cast<std::uint16_t>((first + slot) % experts)
                                        : TraceData::kAbsentId);
    }
  }
  data.weights = eighths(data.ids.size());
  std::int32_t sequence = -1;
  for (std::size_t token = 0; token < tokens; ++token) {
    sequence += static_cast<std::int32_t>(rng.below(2));
    data.sequence.push_back(sequence);
    data.token_ids.push_back(static_cast<std::int32_t>(rng.below(50000)));
    data.phase.push_back(static_cast<std::uint8_t>(rng.below(2)));
  }
  for (std::size_t layer = 0; layer < layers; ++layer) {
    data.expert_bytes.push_back(static_cast<std::int64_t>(1 + rng.below(std::uint64_t{1} << 40)));
  }
  data.selection_bias = eighths(layers * experts);
  data.router_input_l1 = eighths(tokens * layers);
  data.attention_received = eighths(tokens * layers);
  data.metadata = {{"model", "random"}, {"gate", "B"}, {"note", "line one\nline \"two\""}};
  return data;
}

}  // namespace moesim::test
