// Additive vectors on the router's logits, recorded per segment of a sequence, from a file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "core/ids.h"

namespace moesim {

class RecordedDeltas {
 public:
  // `path` is a safetensors file where it ends in .safetensors, else JSON:
  //   JSON         {"delta": [segments][layers][experts], "description": "..."}; null in the place
  //   of
  //                a layer stands for zeros
  //   safetensors  `delta` [segments, n, experts], F16, BF16 or F32, and `layers` [n], I32: the MoE
  //                layers that the second axis stands for (others are zero). Without `layers` n is
  //                the number of MoE layers
  // Throws UserError, naming `shown`, for anything else.
  static RecordedDeltas read(const std::filesystem::path& path, const std::string& shown,
                             const RoutingShape& shape);

  [[nodiscard]] std::size_t segments() const { return segments_; }
  // [experts]; empty where the file has nothing for the layer. REQUIRES: segment < segments().
  [[nodiscard]] std::span<const float> at(std::size_t segment, LayerId layer) const;

 private:
  void read_json(const std::filesystem::path& path, const std::string& shown);
  void read_safetensors(const std::filesystem::path& path, const std::string& shown);

  RoutingShape shape_;
  std::size_t segments_ = 0;
  std::vector<float> values_;         // one run of [experts] after the other
  std::vector<std::int64_t> places_;  // [segments, layers]: start in values_, or -1
};

}  // namespace moesim
