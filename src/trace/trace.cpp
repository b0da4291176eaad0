#include "trace/trace.h"

#include <algorithm>
#include <utility>

#include "core/errors.h"
#include "trace/safetensors_file.h"
#include "trace/tensor_values.h"
#include "trace/trace_validation.h"

namespace moesim {
namespace {

// Copies ids until the first absent one, which validation has found to come last.
template <class T>
std::size_t copy_ids(const SafetensorsTensor& ids, std::size_t first, std::size_t k, T absent,
                     std::span<ExpertId> out) {
  std::size_t count = 0;
  for (; count < k; ++count) {
    const T id = ids.load<T>(first + count);
    if (id == absent) break;
    out[count] = static_cast<ExpertId>(id);
  }
  return count;
}

float load_float(const SafetensorsTensor& tensor, std::size_t i) {
  float value = 0;
  read_floats(tensor, i, {&value, 1});
  return value;
}

}  // namespace

Trace Trace::open(const std::filesystem::path& path, const std::string& shown) {
  return from_file(SafetensorsFile::open(path, shown), shown);
}

Trace Trace::from_bytes(std::vector<std::byte> image, const std::string& shown) {
  return from_file(SafetensorsFile::from_bytes(std::move(image), shown), shown);
}

Trace Trace::from_file(std::shared_ptr<const SafetensorsFile> file, const std::string& shown) {
  const TraceMetadata metadata = read_trace_metadata(*file);
  const TraceAxes axes = check_trace_tensors(*file, metadata);
  Trace trace;
  trace.shown_ = shown;
  trace.shape_ = {axes.tokens, axes.layers, axes.experts};
  trace.recorded_k_ = axes.k;
  trace.top_k_ = metadata.top_k;
  trace.gate_ = metadata.gate;
  trace.ranked_ = metadata.ranked;
  trace.logits_ = file->find("router_logits");
  trace.next_layer_logits_ = file->find("next_layer_logits");
  trace.ids_ = file->find("topk_ids");
  trace.weights_ = file->find("topk_weights");
  trace.token_ids_ = file->find("token_ids");
  trace.sequence_ = file->find("sequence");
  trace.phase_ = file->find("phase");
  trace.expert_bytes_ = file->find("expert_bytes");
  trace.router_input_l1_ = file->find("router_input_l1");
  trace.attention_received_ = file->find("attention_received");
  if (const SafetensorsTensor* const bias = file->find("selection_bias")) {
    trace.selection_bias_.resize(bias->elements());
    read_floats(*bias, 0, trace.selection_bias_);
  }
  trace.file_ = std::move(file);
  return trace;
}

void Trace::read_logits(std::size_t token, LayerId layer, std::span<float> out) const {
  read_floats(*logits_, (token * shape_.layers + index(layer)) * shape_.experts, out);
}

void Trace::read_next_layer_logits(std::size_t token, LayerId layer, std::span<float> out) const {
  read_floats(*next_layer_logits_, (token * shape_.layers + index(layer)) * shape_.experts, out);
}

std::size_t Trace::read_ids(std::size_t token, LayerId layer, std::span<ExpertId> out) const {
  const std::size_t first = (token * shape_.layers + index(layer)) * recorded_k_;
  switch (ids_->dtype) {
    case DType::kU8:
      return copy_ids<std::uint8_t>(*ids_, first, recorded_k_, 0xFF, out);
    case DType::kU16:
      return copy_ids<std::uint16_t>(*ids_, first, recorded_k_, 0xFFFF, out);
    default:
      return copy_ids<std::int32_t>(*ids_, first, recorded_k_, -1, out);
  }
}

void Trace::read_weights(std::size_t token, LayerId layer, std::span<float> out) const {
  read_floats(*weights_, (token * shape_.layers + index(layer)) * recorded_k_,
              out.first(recorded_k_));
}

Phase Trace::phase(std::size_t token) const {
  return phase_ == nullptr ? Phase::kDecode : static_cast<Phase>(phase_->load<std::uint8_t>(token));
}

std::int32_t Trace::sequence(std::size_t token) const {
  return sequence_ == nullptr ? 0 : sequence_->load<std::int32_t>(token);
}

std::int32_t Trace::token_id(std::size_t token) const {
  return token_ids_->load<std::int32_t>(token);
}

std::optional<std::uint64_t> Trace::expert_bytes(LayerId layer) const {
  if (expert_bytes_ == nullptr) return std::nullopt;
  return static_cast<std::uint64_t>(expert_bytes_->load<std::int64_t>(index(layer)));
}

std::span<const float> Trace::selection_bias(LayerId layer) const {
  if (selection_bias_.empty()) return {};
  return std::span(selection_bias_).subspan(index(layer) * shape_.experts, shape_.experts);
}

bool Trace::has_tensor(const std::string& name) const { return file_->find(name) != nullptr; }

float Trace::router_input_l1(std::size_t token, LayerId layer) const {
  return load_float(*router_input_l1_, token * shape_.layers + index(layer));
}

float Trace::attention_received(std::size_t token, LayerId layer) const {
  return load_float(*attention_received_, token * shape_.layers + index(layer));
}

const std::map<std::string, std::string>& Trace::metadata() const { return file_->metadata(); }

std::string Trace::model() const {
  const auto found = metadata().find("model");
  return found == metadata().end() ? "" : found->second;
}

std::string Trace::provenance() const {
  const auto found = metadata().find("provenance");
  return found == metadata().end() ? "" : found->second;
}

}  // namespace moesim
