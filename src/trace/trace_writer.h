// A trace held in memory, and writing it as a file: what importers and the generator produce.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/ids.h"

namespace moesim {

// Fill either `logits` (full form) or `ids` (compact form), or both; leave what is not known empty.
struct TraceData {
  static constexpr std::uint16_t kAbsentId = 0xFFFF;

  RoutingShape shape;
  std::vector<float> logits;            // [tokens, layers, experts], written as `logits_dtype`
  std::string logits_dtype = "F16";     // F16, BF16 or F32
  std::size_t k = 0;                    // ids per cell
  std::vector<std::uint16_t> ids;       // [tokens, layers, k], best first; kAbsentId where absent
  std::vector<float> weights;           // [tokens, layers, k]
  std::vector<std::int32_t> token_ids;  // [tokens]
  std::vector<std::int32_t> sequence;   // [tokens]
  std::vector<std::uint8_t> phase;      // [tokens]
  std::vector<std::int64_t> expert_bytes;       // [layers]
  std::vector<float> selection_bias;            // [layers, experts]
  std::vector<float> next_layer_logits;         // [tokens, layers, experts]
  std::vector<float> router_input_l1;           // [tokens, layers]
  std::vector<float> attention_received;        // [tokens, layers]
  std::map<std::string, std::string> metadata;  // beside format and version, which are added
};

// The complete file image. Equal data give equal bytes. Ids are stored as U8 where experts < 256
// (255 marks absent), else as U16; next_layer_logits as F16 where the logits are, all other floats
// as F32. The metadata gain format, version and experts. Throws UserError for a value that is not
// finite in its stored type, InvariantError for sizes and ids that contradict the shape.
std::vector<std::byte> trace_image(const TraceData& data);

// Writes the image; the file appears complete or not at all. Throws UserError.
void write_trace(const TraceData& data, const std::filesystem::path& path);

}  // namespace moesim
