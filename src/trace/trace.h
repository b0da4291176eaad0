// A recorded routing trace: one safetensors file (docs/trace_format.md), memory-mapped and checked
// once on opening. Rows are converted when they are read; the file is never copied whole.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/ids.h"

namespace moesim {

class SafetensorsFile;
struct SafetensorsTensor;

// The metadata `model` of traces that no model recorded.
inline constexpr const char* kSyntheticModel = "synthetic";

class Trace {
 public:
  // Maps and validates the file. Throws UserError that names file, tensor and place: truncated or
  // overlapping tensors, a header longer than the file, NaN or infinite logits, ids out of range,
  // duplicate ids in a row, wrong shapes, a missing or contradicting tensor.
  // `shown` is how messages and results call the file.
  static Trace open(const std::filesystem::path& path, const std::string& shown);
  // The same checks on a file image held in memory (tests, synthetic traces).
  static Trace from_bytes(std::vector<std::byte> image, const std::string& shown);

  [[nodiscard]] const RoutingShape& shape() const { return shape_; }
  [[nodiscard]] const std::string& shown() const { return shown_; }

  // --- the full form: router_logits [tokens, layers, experts] ---
  [[nodiscard]] bool has_logits() const { return logits_ != nullptr; }
  // Converts one row to float. REQUIRES: has_logits(), out.size() == shape().experts.
  void read_logits(std::size_t token, LayerId layer, std::span<float> out) const;

  // --- the compact form: topk_ids [tokens, layers, recorded_k()], best first unless !ranked() ---
  [[nodiscard]] bool has_ids() const { return ids_ != nullptr; }
  [[nodiscard]] bool has_weights() const { return weights_ != nullptr; }
  // Ids per cell of the compact form; 0 when there is none.
  [[nodiscard]] std::size_t recorded_k() const { return recorded_k_; }
  // Writes the ids of a cell and returns how many there are: recorded_k(), or less where cells are
  // absent, 0 when the token does not visit this layer. REQUIRES: has_ids(), out.size() >=
  // recorded_k().
  std::size_t read_ids(std::size_t token, LayerId layer, std::span<ExpertId> out) const;
  // The weights of the same cell. REQUIRES: has_weights(), out.size() >= recorded_k().
  void read_weights(std::size_t token, LayerId layer, std::span<float> out) const;

  // --- optional tensors ---
  [[nodiscard]] Phase phase(std::size_t token) const;            // all decode where absent
  [[nodiscard]] std::int32_t sequence(std::size_t token) const;  // 0 where absent
  [[nodiscard]] bool has_token_ids() const { return token_ids_ != nullptr; }
  [[nodiscard]] std::int32_t token_id(std::size_t token) const;  // REQUIRES: has_token_ids()
  // Recorded size of one expert of this layer in bytes.
  [[nodiscard]] std::optional<std::uint64_t> expert_bytes(LayerId layer) const;
  // [experts]; empty where the trace has no selection bias.
  [[nodiscard]] std::span<const float> selection_bias(LayerId layer) const;
  // True when the optional tensor `name` is in the file (any name of docs/trace_format.md).
  [[nodiscard]] bool has_tensor(const std::string& name) const;
  // One row of next_layer_logits. REQUIRES: has_tensor("next_layer_logits").
  void read_next_layer_logits(std::size_t token, LayerId layer, std::span<float> out) const;

  // Token importance. REQUIRES: has_tensor() of the same name.
  [[nodiscard]] float router_input_l1(std::size_t token, LayerId layer) const;
  [[nodiscard]] float attention_received(std::size_t token, LayerId layer) const;
  // The file underneath, for whoever lists its tensors as they stand.
  [[nodiscard]] const SafetensorsFile& file() const { return *file_; }

  // --- metadata ---
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const;
  [[nodiscard]] std::string model() const;       // "" when unknown
  [[nodiscard]] std::string provenance() const;  // "" when unknown
  // Gate code "A" to "G" (routing_and_compression: gate functions); "" when unknown.
  [[nodiscard]] std::string gate() const { return gate_; }
  // Experts that the recording ran.
  [[nodiscard]] std::optional<std::size_t> top_k() const { return top_k_; }
  [[nodiscard]] bool ranked() const { return ranked_; }  // ids best first; true unless "0"

 private:
  Trace() = default;
  static Trace from_file(std::shared_ptr<const SafetensorsFile> file, const std::string& shown);

  std::shared_ptr<const SafetensorsFile> file_;  // keeps the mapping alive
  std::string shown_;
  RoutingShape shape_;
  std::size_t recorded_k_ = 0;
  std::optional<std::size_t> top_k_;
  std::string gate_;
  bool ranked_ = true;
  // Tensors by role, owned by file_; null where absent.
  const SafetensorsTensor* logits_ = nullptr;
  const SafetensorsTensor* next_layer_logits_ = nullptr;
  const SafetensorsTensor* ids_ = nullptr;
  const SafetensorsTensor* weights_ = nullptr;
  const SafetensorsTensor* token_ids_ = nullptr;
  const SafetensorsTensor* sequence_ = nullptr;
  const SafetensorsTensor* phase_ = nullptr;
  const SafetensorsTensor* expert_bytes_ = nullptr;
  const SafetensorsTensor* router_input_l1_ = nullptr;
  const SafetensorsTensor* attention_received_ = nullptr;
  std::vector<float> selection_bias_;  // [layers, experts]; copied, for it may be unaligned
};

}  // namespace moesim
