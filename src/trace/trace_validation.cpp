#include "trace/trace_validation.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <limits>
#include <utility>
#include <vector>

#include "core/errors.h"
#include "trace/tensor_values.h"

namespace moesim {
namespace {

// LayerId and ExpertId are 16 bits wide, and TraceData marks an absent id with the last of them.
constexpr std::size_t kMostLayers = 65535;
constexpr std::size_t kMostExperts = 65535;

UserError metadata_error(const SafetensorsFile& file, const std::string& key,
                         const std::string& expected, const std::string* got) {
  return user_error(
      fmt::format("{}: metadata \"{}\"", file.shown(), key),
      fmt::format("expected {}, got {}", expected, got == nullptr ? "none" : '"' + *got + '"'));
}

const std::string* find_metadata(const SafetensorsFile& file, const std::string& key) {
  const auto found = file.metadata().find(key);
  return found == file.metadata().end() ? nullptr : &found->second;
}

void require_metadata(const SafetensorsFile& file, const std::string& key,
                      const std::string& expected) {
  const std::string* const got = find_metadata(file, key);
  if (got == nullptr || *got != expected) {
    throw metadata_error(file, key, '"' + expected + '"', got);
  }
}

std::optional<std::size_t> positive_metadata(const SafetensorsFile& file, const std::string& key) {
  const std::string* const text = find_metadata(file, key);
  if (text == nullptr) return std::nullopt;
  std::size_t value = 0;
  const auto result = std::from_chars(text->data(), text->data() + text->size(), value);
  if (result.ec != std::errc{} || result.ptr != text->data() + text->size() || value == 0 ||
      value > kMostExperts) {
    throw metadata_error(file, key, fmt::format("an integer in [1, {}]", kMostExperts), text);
  }
  return value;
}

// A code may carry particulars behind its letter, "B+sg" or "D(8g;4;x2.5)". Recordings that name
// the function instead of a code are understood as well.
std::string gate_metadata(const SafetensorsFile& file) {
  const std::string* const text = find_metadata(file, "gate");
  if (text == nullptr || text->empty()) return "";
  if (*text == "softmax") {
    const std::string* const norm = find_metadata(file, "norm_topk_prob");
    return norm != nullptr && *norm == "true" ? "A" : "B";
  }
  if (*text == "sigmoid") return "D";
  const char letter = text->front();
  const bool ends = text->size() == 1 || std::isalnum(static_cast<unsigned char>((*text)[1])) == 0;
  if (letter < 'A' || letter > 'G' || !ends) {
    throw metadata_error(file, "gate", "a gate code A to G, \"softmax\" or \"sigmoid\"", text);
  }
  return {letter};
}

bool ranked_metadata(const SafetensorsFile& file) {
  const std::string* const text = find_metadata(file, "ranked");
  if (text == nullptr || *text == "1") return true;
  if (*text == "0") return false;
  throw metadata_error(file, "ranked", "\"0\" or \"1\"", text);
}

void check_type(const SafetensorsFile& file, const TensorRule& rule,
                const SafetensorsTensor& tensor) {
  if (std::find(rule.dtypes.begin(), rule.dtypes.end(), tensor.dtype) == rule.dtypes.end()) {
    throw file.tensor_error(rule.name, fmt::format("expected dtype {}, got {}", rule.dtypes_text(),
                                                   to_string(tensor.dtype)));
  }
  if (tensor.shape.size() != rule.axes.size()) {
    throw file.tensor_error(rule.name, fmt::format("expected shape {}, got {}", rule.axes_text(),
                                                   shape_text(tensor.shape)));
  }
}

void check_shape(const SafetensorsFile& file, const TensorRule& rule,
                 const SafetensorsTensor& tensor, const TraceAxes& axes) {
  const auto expected = rule.shape(axes);
  if (tensor.shape != expected) {
    throw file.tensor_error(rule.name,
                            fmt::format("expected shape {} = {}, got {}", rule.axes_text(),
                                        shape_text(expected), shape_text(tensor.shape)));
  }
}

void check_axis(const SafetensorsFile& file, const TensorRule& rule,
                const SafetensorsTensor& tensor, std::size_t axis, std::size_t most) {
  if (tensor.shape[axis] == 0 || tensor.shape[axis] > most) {
    throw file.tensor_error(
        rule.name, fmt::format("expected shape {} with 1 to {} {}, got {}", rule.axes_text(), most,
                               axis == 1                ? "layers"
                               : rule.axes[axis] == 'E' ? "experts"
                                                        : "ids per cell",
                               shape_text(tensor.shape)));
  }
}

// The axes as the logits or, where there are none, the ids give them; experts 0 where only the ids
// themselves tell.
TraceAxes main_axes(const SafetensorsFile& file, const TraceMetadata& metadata) {
  const SafetensorsTensor* const logits = file.find("router_logits");
  const SafetensorsTensor* const ids = file.find("topk_ids");
  if (logits == nullptr && ids == nullptr) {
    throw user_error(file.shown(),
                     "expected a tensor router_logits or topk_ids, got neither of them");
  }
  TraceAxes axes;
  axes.experts = metadata.experts.value_or(0);
  for (const SafetensorsTensor* const tensor : {ids, logits}) {
    if (tensor == nullptr) continue;
    const TensorRule& rule = *find_tensor_rule(tensor->name);
    check_type(file, rule, *tensor);
    if (tensor->shape[0] == 0) {
      throw file.tensor_error(
          rule.name, "expected at least one token, got shape " + shape_text(tensor->shape));
    }
    check_axis(file, rule, *tensor, 1, kMostLayers);
    check_axis(file, rule, *tensor, 2, kMostExperts);
    axes.tokens = tensor->shape[0];
    axes.layers = tensor->shape[1];
  }
  if (ids != nullptr) axes.k = ids->shape[2];
  if (logits != nullptr) axes.experts = logits->shape[2];
  return axes;
}

std::size_t highest_id_plus_one(const SafetensorsFile& file, const SafetensorsTensor& ids) {
  std::int64_t highest = -1;
  for (std::size_t i = 0; i < ids.elements(); ++i) {
    highest = std::max(highest, load_id(ids, i).value_or(-1));
  }
  if (highest < 0) {
    throw file.tensor_error(ids.name, "expected at least one id, got only absent ones");
  }
  // Ids that do not fit an ExpertId are named by check_ids().
  return static_cast<std::size_t>(std::min<std::int64_t>(highest + 1, kMostExperts));
}

// Ids in range, none twice in a cell, absent ones last.
void check_ids(const SafetensorsFile& file, const SafetensorsTensor& ids, std::size_t experts) {
  const TensorRule& rule = *find_tensor_rule(ids.name);
  const std::size_t k = ids.shape[2];
  const auto fail = [&file, &ids, &rule](std::size_t i, const std::string& message) {
    throw file.tensor_error(ids.name, rule.place(i, ids.shape) + ": " + message);
  };
  std::vector<std::size_t> last_cell(experts, 0);  // 1 + the last cell that has the expert
  for (std::size_t i = 0; i < ids.elements(); ++i) {
    const auto id = load_id(ids, i);
    if (!id) continue;
    if (*id < 0 || *id >= static_cast<std::int64_t>(experts)) {
      fail(i, fmt::format("expected an id in [0, {}], got {}", experts - 1, *id));
    }
    if (i % k != 0 && !load_id(ids, i - 1)) {
      fail(i, fmt::format("expected absent ids to come last, got {} after one", *id));
    }
    std::size_t& seen = last_cell[static_cast<std::size_t>(*id)];
    if (seen == i / k + 1) fail(i, fmt::format("expected distinct ids, got {} twice", *id));
    seen = i / k + 1;
  }
}

void check_finite(const SafetensorsFile& file, const TensorRule& rule,
                  const SafetensorsTensor& tensor) {
  if (const auto bad = first_non_finite(tensor)) {
    throw file.tensor_error(
        rule.name, fmt::format("{}: expected a finite number, got {}",
                               rule.place(*bad, tensor.shape), non_finite_text(tensor, *bad)));
  }
}

// `fault(i)` is what is wrong with element `i`, "" where nothing is.
template <class Fault>
void check_elements(const SafetensorsFile& file, const char* name, Fault&& fault) {
  const SafetensorsTensor* const tensor = file.find(name);
  if (tensor == nullptr) return;
  for (std::size_t i = 0; i < tensor->elements(); ++i) {
    const std::string message = fault(*tensor, i);
    if (message.empty()) continue;
    const TensorRule& rule = *find_tensor_rule(name);
    throw file.tensor_error(name, rule.place(i, tensor->shape) + ": " + message);
  }
}

void check_integers(const SafetensorsFile& file) {
  using Tensor = const SafetensorsTensor&;
  check_elements(file, "sequence", [](Tensor tensor, std::size_t i) -> std::string {
    const auto now = tensor.load<std::int32_t>(i);
    const auto before = i == 0 ? now : tensor.load<std::int32_t>(i - 1);
    return now >= before ? "" : fmt::format("expected at least {}, got {}", before, now);
  });
  check_elements(file, "phase", [](Tensor tensor, std::size_t i) -> std::string {
    const auto phase = tensor.load<std::uint8_t>(i);
    return phase <= 1 ? "" : fmt::format("expected 0 or 1, got {}", phase);
  });
  check_elements(file, "expert_bytes", [](Tensor tensor, std::size_t i) -> std::string {
    const auto bytes = tensor.load<std::int64_t>(i);
    return bytes > 0 ? "" : fmt::format("expected an integer > 0, got {}", bytes);
  });
}

}  // namespace

std::optional<std::int64_t> load_id(const SafetensorsTensor& ids, std::size_t i) {
  switch (ids.dtype) {
    case DType::kU8: {
      const auto id = ids.load<std::uint8_t>(i);
      if (id == std::numeric_limits<std::uint8_t>::max()) return std::nullopt;
      return id;
    }
    case DType::kU16: {
      const auto id = ids.load<std::uint16_t>(i);
      if (id == std::numeric_limits<std::uint16_t>::max()) return std::nullopt;
      return id;
    }
    default: {
      const auto id = ids.load<std::int32_t>(i);
      if (id == -1) return std::nullopt;
      return id;
    }
  }
}

TraceMetadata read_trace_metadata(const SafetensorsFile& file) {
  require_metadata(file, "format", "moesim.trace");
  require_metadata(file, "version", "1");
  return {positive_metadata(file, "experts"), positive_metadata(file, "top_k"), gate_metadata(file),
          ranked_metadata(file)};
}

TraceAxes check_trace_tensors(const SafetensorsFile& file, const TraceMetadata& metadata) {
  TraceAxes axes = main_axes(file, metadata);
  const SafetensorsTensor* const ids = file.find("topk_ids");
  if (axes.experts == 0) axes.experts = highest_id_plus_one(file, *ids);
  if (metadata.experts && *metadata.experts != axes.experts) {
    throw user_error(file.shown() + ": metadata \"experts\"",
                     fmt::format("expected {}, the width of router_logits, got \"{}\"",
                                 axes.experts, *metadata.experts));
  }
  if (metadata.top_k && *metadata.top_k > axes.experts) {
    throw user_error(
        file.shown() + ": metadata \"top_k\"",
        fmt::format("expected at most the {} experts, got \"{}\"", axes.experts, *metadata.top_k));
  }
  if (ids == nullptr && file.find("topk_weights") != nullptr) {
    throw file.tensor_error("topk_weights", "expected topk_ids beside it, got none");
  }
  for (const TensorRule& rule : tensor_rules()) {
    const SafetensorsTensor* const tensor = file.find(rule.name);
    if (tensor == nullptr) continue;
    check_type(file, rule, *tensor);
    check_shape(file, rule, *tensor, axes);
    check_finite(file, rule, *tensor);
  }
  check_integers(file);
  if (ids != nullptr) check_ids(file, *ids, axes.experts);
  return axes;
}

}  // namespace moesim
