#include "trace/trace_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <ostream>
#include <span>
#include <utility>

#include "core/errors.h"
#include "core/files.h"
#include "core/half.h"
#include "trace/safetensors_writer.h"
#include "trace/tensor_rules.h"
#include "trace/tensor_values.h"

namespace moesim {
namespace {

std::uint16_t float_to_bfloat16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  // Round to nearest even on the 16 bits that go.
  return static_cast<std::uint16_t>((bits + 0x7FFFU + ((bits >> 16U) & 1U)) >> 16U);
}

template <class Convert>
std::vector<std::byte> narrowed(std::span<const float> values, Convert convert) {
  std::vector<std::uint16_t> bits(values.size());
  std::transform(values.begin(), values.end(), bits.begin(), convert);
  return bytes_of(std::span<const std::uint16_t>(bits));
}

// Collects the tensors that are there; an empty vector is a tensor that is not.
class TraceTensors {
 public:
  explicit TraceTensors(const TraceData& data)
      : axes_{data.shape.tokens, data.shape.layers, data.shape.experts, data.k} {}

  void add_floats(const std::string& name, std::span<const float> values, DType dtype) {
    if (values.empty()) return;
    switch (dtype) {
      case DType::kF16:
        add(name, dtype, narrowed(values, float_to_half));
        break;
      case DType::kBF16:
        add(name, dtype, narrowed(values, float_to_bfloat16));
        break;
      default:
        add(name, DType::kF32, bytes_of(values));
        break;
    }
    require_finite(tensors_.back(), values);
  }

  template <class T>
  void add_integers(const std::string& name, std::span<const T> values, DType dtype) {
    if (!values.empty()) add(name, dtype, bytes_of(values));
  }

  std::vector<TensorToWrite> take() { return std::move(tensors_); }

 private:
  void add(const std::string& name, DType dtype, std::vector<std::byte> bytes) {
    tensors_.push_back({name, dtype, find_tensor_rule(name)->shape(axes_), std::move(bytes)});
  }

  static void require_finite(const TensorToWrite& tensor, std::span<const float> values) {
    const SafetensorsTensor stored{tensor.name, tensor.dtype, tensor.shape, tensor.bytes};
    const auto bad = first_non_finite(stored);
    if (!bad) return;
    const TensorRule& rule = *find_tensor_rule(tensor.name);
    throw user_error(fmt::format("trace to write: tensor \"{}\" {}", tensor.name,
                                 rule.place(*bad, tensor.shape)),
                     fmt::format("expected a number that is finite as {}, got {}",
                                 to_string(tensor.dtype), values[*bad]));
  }

  TraceAxes axes_;
  std::vector<TensorToWrite> tensors_;
};

DType logits_dtype(const std::string& name) {
  for (const DType dtype : {DType::kF16, DType::kBF16, DType::kF32}) {
    if (name == to_string(dtype)) return dtype;
  }
  throw InvariantError("logits cannot be written as " + name);
}

void add_ids(const TraceData& data, TraceTensors& tensors) {
  for (const std::uint16_t id : data.ids) {
    if (id != TraceData::kAbsentId && id >= data.shape.experts) {
      throw InvariantError(fmt::format("expert id {} of {} experts", id, data.shape.experts));
    }
  }
  if (data.shape.experts >= 256) {
    tensors.add_integers<std::uint16_t>("topk_ids", data.ids, DType::kU16);
    return;
  }
  // The absent marker 0xFFFF becomes 0xFF.
  std::vector<std::uint8_t> narrow(data.ids.size());
  std::transform(data.ids.begin(), data.ids.end(), narrow.begin(),
                 [](std::uint16_t id) { return static_cast<std::uint8_t>(id); });
  tensors.add_integers<std::uint8_t>("topk_ids", narrow, DType::kU8);
}

}  // namespace

std::vector<std::byte> trace_image(const TraceData& data) {
  const DType dtype = logits_dtype(data.logits_dtype);
  TraceTensors tensors(data);
  tensors.add_floats("router_logits", data.logits, dtype);
  // The format knows no BF16 here.
  tensors.add_floats("next_layer_logits", data.next_layer_logits,
                     dtype == DType::kF16 ? DType::kF16 : DType::kF32);
  add_ids(data, tensors);
  tensors.add_floats("topk_weights", data.weights, DType::kF32);
  tensors.add_integers<std::int32_t>("token_ids", data.token_ids, DType::kI32);
  tensors.add_integers<std::int32_t>("sequence", data.sequence, DType::kI32);
  tensors.add_integers<std::uint8_t>("phase", data.phase, DType::kU8);
  tensors.add_integers<std::int64_t>("expert_bytes", data.expert_bytes, DType::kI64);
  tensors.add_floats("selection_bias", data.selection_bias, DType::kF32);
  tensors.add_floats("router_input_l1", data.router_input_l1, DType::kF32);
  tensors.add_floats("attention_received", data.attention_received, DType::kF32);
  auto metadata = data.metadata;
  metadata.insert_or_assign("format", std::string("moesim.trace"));
  metadata.insert_or_assign("version", std::string("1"));
  metadata.insert_or_assign("experts", std::to_string(data.shape.experts));
  return safetensors_image(tensors.take(), metadata);
}

void write_trace(const TraceData& data, const std::filesystem::path& path) {
  const std::vector<std::byte> image = trace_image(data);
  write_file_atomically(path, [&image](std::ostream& out) {
    out.write(reinterpret_cast<const char*>(image.data()),
              static_cast<std::streamsize>(image.size()));
  });
}

}  // namespace moesim
