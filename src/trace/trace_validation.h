// What makes a safetensors file a trace: metadata, types, shapes and values, checked once so that
// whoever reads rows later need not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "trace/safetensors_file.h"
#include "trace/tensor_rules.h"

namespace moesim {

struct TraceMetadata {
  std::optional<std::size_t> experts;
  std::optional<std::size_t> top_k;
  std::string gate;  // "A" to "G", "" when unknown
  bool ranked = true;
};

// Throws UserError that names the file, the key, expected and got.
TraceMetadata read_trace_metadata(const SafetensorsFile& file);

// Checks every tensor of the format; tensors of other names are let be. Returns how long the axes
// are. The number of experts is the width of the logits, else the metadata's, else the highest id
// + 1. Throws UserError that names the file, the tensor and the place.
TraceAxes check_trace_tensors(const SafetensorsFile& file, const TraceMetadata& metadata);

// Id `i` of topk_ids, or nullopt where it is the absent marker: the largest value of an unsigned
// type, -1 for I32.
std::optional<std::int64_t> load_id(const SafetensorsTensor& ids, std::size_t i);

}  // namespace moesim
