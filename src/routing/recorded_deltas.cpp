#include "routing/recorded_deltas.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "config/json_place.h"
#include "core/errors.h"
#include "trace/safetensors_file.h"
#include "trace/tensor_values.h"

namespace moesim {
namespace {

constexpr std::int64_t kNothing = -1;

// The MoE layer of each element of the second axis of `delta`.
std::vector<std::size_t> read_layers(const SafetensorsFile& file, const SafetensorsTensor& delta,
                                     std::size_t moe_layers) {
  std::vector<std::size_t> layers;
  layers.reserve(delta.shape[1]);
  const SafetensorsTensor* listed = file.find("layers");
  if (listed == nullptr) {
    if (delta.shape[1] != moe_layers) {
      throw file.tensor_error("delta", fmt::format("expected {} MoE layers as in the trace, or a "
                                                   "tensor layers that says which, got {}",
                                                   moe_layers, delta.shape[1]));
    }
    for (std::size_t layer = 0; layer < moe_layers; ++layer) layers.push_back(layer);
    return layers;
  }
  if (listed->dtype != DType::kI32 || listed->shape != std::vector<std::size_t>{delta.shape[1]}) {
    throw file.tensor_error("layers",
                            fmt::format("expected I32 [{}], got {} {}", delta.shape[1],
                                        to_string(listed->dtype), shape_text(listed->shape)));
  }
  for (std::size_t i = 0; i < delta.shape[1]; ++i) {
    const auto layer = listed->load<std::int32_t>(i);
    const auto at = static_cast<std::size_t>(layer);
    const bool again = std::find(layers.begin(), layers.end(), at) != layers.end();
    if (layer < 0 || at >= moe_layers || again) {
      throw file.tensor_error(
          "layers",
          fmt::format("expected MoE layers in [0, {}] that differ, got {}", moe_layers - 1, layer));
    }
    layers.push_back(at);
  }
  return layers;
}

void check_delta(const SafetensorsFile& file, const SafetensorsTensor& delta, std::size_t experts) {
  const bool is_float =
      delta.dtype == DType::kF16 || delta.dtype == DType::kBF16 || delta.dtype == DType::kF32;
  if (!is_float || delta.shape.size() != 3 || delta.shape[2] != experts) {
    throw file.tensor_error(
        "delta", fmt::format("expected F16, BF16 or F32 [segments, layers, {}], got {} {}", experts,
                             to_string(delta.dtype), shape_text(delta.shape)));
  }
  if (const auto place = first_non_finite(delta)) {
    throw file.tensor_error("delta", fmt::format("expected finite numbers, got {} at element {}",
                                                 non_finite_text(delta, *place), *place));
  }
}

}  // namespace

RecordedDeltas RecordedDeltas::read(const std::filesystem::path& path, const std::string& shown,
                                    const RoutingShape& shape) {
  RecordedDeltas deltas;
  deltas.shape_ = shape;
  if (path.extension() == ".safetensors") {
    deltas.read_safetensors(path, shown);
  } else {
    deltas.read_json(path, shown);
  }
  return deltas;
}

std::span<const float> RecordedDeltas::at(std::size_t segment, LayerId layer) const {
  const std::int64_t place = places_[segment * shape_.layers + index(layer)];
  if (place == kNothing) return {};
  return std::span(values_).subspan(static_cast<std::size_t>(place), shape_.experts);
}

void RecordedDeltas::read_json(const std::filesystem::path& path, const std::string& shown) {
  Section section(read_json_file(path, shown), shown, "");
  section.string_or("description", "");
  section.know("delta");
  if (!section.has("delta")) throw section.error("delta", "missing key");
  const JsonPlace delta(section, "delta");
  section.reject_unread_keys();
  delta.require_array();
  segments_ = delta.value().size();
  places_.assign(segments_ * shape_.layers, kNothing);
  for (std::size_t segment = 0; segment < segments_; ++segment) {
    const JsonPlace layers = delta.element(segment);
    layers.require_array(shape_.layers, "MoE layer");
    for (std::size_t layer = 0; layer < shape_.layers; ++layer) {
      const JsonPlace row = layers.element(layer);
      if (row.value().is_null()) continue;
      row.require_array(shape_.experts, "expert");
      places_[segment * shape_.layers + layer] = static_cast<std::int64_t>(values_.size());
      for (std::size_t e = 0; e < shape_.experts; ++e) {
        const auto value = static_cast<float>(row.element(e).number());
        if (!std::isfinite(value)) throw row.element(e).error("a number in the range of F32");
        values_.push_back(value);
      }
    }
  }
}

void RecordedDeltas::read_safetensors(const std::filesystem::path& path, const std::string& shown) {
  const auto file = SafetensorsFile::open(path, shown);
  const SafetensorsTensor* delta = file->find("delta");
  if (delta == nullptr) throw file->tensor_error("delta", "missing");
  check_delta(*file, *delta, shape_.experts);
  const std::vector<std::size_t> layers = read_layers(*file, *delta, shape_.layers);
  segments_ = delta->shape[0];
  places_.assign(segments_ * shape_.layers, kNothing);
  values_.resize(delta->elements());
  read_floats(*delta, 0, values_);
  for (std::size_t segment = 0; segment < segments_; ++segment) {
    for (std::size_t i = 0; i < layers.size(); ++i) {
      places_[segment * shape_.layers + layers[i]] =
          static_cast<std::int64_t>((segment * layers.size() + i) * shape_.experts);
    }
  }
}

}  // namespace moesim
