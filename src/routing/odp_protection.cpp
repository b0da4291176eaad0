#include "routing/odp_protection.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "trace/trace.h"

namespace moesim {
namespace {

const Trace& require_tensor(const Section& config, const RoutingContext& context,
                            const std::string& tensor) {
  if (context.trace == nullptr) {
    throw config.error("protect", "odp needs the tensor " + tensor + ", and there is no trace");
  }
  if (!context.trace->has_tensor(tensor)) {
    throw config.error("protect", fmt::format("odp needs the tensor {}, which the trace {} lacks",
                                              tensor, context.trace->shown()));
  }
  return *context.trace;
}

// Share of so many tokens, rounded down; the slack undoes the error of a decimal fraction in
// binary: 0.02 of 50 is 1.
std::size_t share_of(std::size_t tokens, double share) {
  return static_cast<std::size_t>(std::floor(share * static_cast<double>(tokens) + 1e-9));
}

}  // namespace

OdpProtection::OdpProtection(Section& config, const RoutingContext& context)
    : layers_(context.shape.layers) {
  const std::string form = config.choice("protect", {"none", "paper", "code"});
  const double share = config.number("protect_share", kUnitInterval);
  const bool as_prompt = config.boolean("as_prompt");
  if (form == "none") return;
  const bool by_attention = form == "paper";
  if (by_attention && !as_prompt) {
    throw config.error(
        "protect",
        "the paper's form needs the attention of later tokens, which a token that is "
        "being decoded does not have: set as_prompt where the tokens of a sequence "
        "stand for a prompt");
  }
  const Trace& trace = require_tensor(config, context, "router_input_l1");
  if (by_attention) require_tensor(config, context, "attention_received");
  if (!as_prompt) return;
  protected_.assign(trace.shape().tokens * layers_, 0);
  std::vector<std::size_t> rows;  // decoded tokens of one sequence
  rows.reserve(trace.shape().tokens);
  for (std::size_t token = 0; token < trace.shape().tokens; ++token) {
    if (token > 0 && trace.sequence(token) != trace.sequence(token - 1)) {
      protect_sequence(trace, rows, by_attention, share);
      rows.clear();
    }
    if (trace.phase(token) == Phase::kDecode) rows.push_back(token);
  }
  protect_sequence(trace, rows, by_attention, share);
}

// I_j = |t_j|_1 * (attention that token j receives from itself and later ones) / (L - j), j from 0.
// The released code sums its attention along the wrong axis, which gives 1 for every token, so that
// |t_j|_1 / (L - j) is left.
void OdpProtection::protect_sequence(const Trace& trace, const std::vector<std::size_t>& rows,
                                     bool by_attention, double share) {
  const std::size_t count = share_of(rows.size(), share);
  if (count == 0) return;
  std::vector<double> importance(rows.size());
  std::vector<std::size_t> order(rows.size());
  for (std::size_t l = 0; l < layers_; ++l) {
    const auto layer = static_cast<LayerId>(l);
    for (std::size_t j = 0; j < rows.size(); ++j) {
      const double attention = by_attention ? trace.attention_received(rows[j], layer) : 1.0;
      importance[j] = static_cast<double>(trace.router_input_l1(rows[j], layer)) * attention /
                      static_cast<double>(rows.size() - j);
      order[j] = j;
    }
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return importance[a] != importance[b] ? importance[a] > importance[b] : a < b;
    });
    for (std::size_t i = 0; i < count; ++i) protected_[rows[order[i]] * layers_ + l] = 1;
  }
}

}  // namespace moesim
