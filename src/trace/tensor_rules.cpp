#include "trace/tensor_rules.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/errors.h"

namespace moesim {
namespace {

struct Axis {
  const char* one;
  const char* many;
  std::size_t TraceAxes::*length;
};

Axis axis_of(char letter) {
  switch (letter) {
    case 'T':
      return {"token", "tokens", &TraceAxes::tokens};
    case 'L':
      return {"layer", "layers", &TraceAxes::layers};
    case 'E':
      return {"expert", "experts", &TraceAxes::experts};
    case 'K':
      return {"slot", "k", &TraceAxes::k};
    default:
      throw InvariantError(std::string("no axis of a trace has the letter ") + letter);
  }
}

}  // namespace

std::vector<std::size_t> TensorRule::shape(const TraceAxes& axes_lengths) const {
  std::vector<std::size_t> result;
  for (const char letter : axes) result.push_back(axes_lengths.*axis_of(letter).length);
  return result;
}

std::string TensorRule::dtypes_text() const {
  std::string text = to_string(dtypes.front());
  for (std::size_t i = 1; i < dtypes.size(); ++i) {
    text += (i + 1 == dtypes.size() ? " or " : ", ") + to_string(dtypes[i]);
  }
  return text;
}

std::string TensorRule::axes_text() const {
  std::string text;
  for (const char letter : axes)
    text += (text.empty() ? "[" : ", ") + std::string(axis_of(letter).many);
  return text + "]";
}

std::string TensorRule::place(std::size_t element, std::span<const std::size_t> lengths) const {
  std::vector<std::string> parts;
  for (std::size_t i = axes.size(); i-- > 0;) {
    parts.push_back(fmt::format("{} {}", axis_of(axes[i]).one, element % lengths[i]));
    element /= lengths[i];
  }
  return fmt::format("[{}]", fmt::join(parts.rbegin(), parts.rend(), ", "));
}

const std::vector<TensorRule>& tensor_rules() {
  using enum DType;
  static const std::vector<TensorRule> kRules = {
      {"router_logits", {kF16, kBF16, kF32}, "TLE", "router output before softmax or sigmoid"},
      {"topk_ids", {kU8, kU16, kI32}, "TLK", "experts that ran"},
      {"topk_weights", {kF16, kF32}, "TLK", "gate weights of the experts that ran"},
      {"token_ids", {kI32}, "T", "vocabulary ids"},
      {"sequence", {kI32}, "T", "which sequence a token belongs to"},
      {"phase", {kU8}, "T", "0 prefill, 1 decode"},
      {"expert_bytes", {kI64}, "L", "recorded size of one expert"},
      {"selection_bias", {kF32}, "LE", "static bias that takes part in the selection"},
      {"router_input_l1", {kF16, kF32}, "TL", "1-norm of the router's input"},
      {"attention_received", {kF16, kF32}, "TL", "attention that later tokens pay to a token"},
      {"next_layer_logits", {kF16, kF32}, "TLE", "the next layer's router on this layer's input"}};
  return kRules;
}

const TensorRule* find_tensor_rule(const std::string& name) {
  const auto& rules = tensor_rules();
  const auto found = std::find_if(rules.begin(), rules.end(),
                                  [&name](const TensorRule& rule) { return name == rule.name; });
  return found == rules.end() ? nullptr : &*found;
}

}  // namespace moesim
