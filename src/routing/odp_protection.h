// Token protection of online dynamic pruning (MC-MoE, arXiv 2410.06270, equation 6): the most
// important tokens of a prompt keep all their experts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "config/section.h"
#include "core/ids.h"
#include "routing/routing_policy.h"

namespace moesim {

// Importance is defined among the tokens of a prompt that are processed together; it needs how many
// of them follow and, in the paper's form, how much attention those will pay. A token that is being
// decoded has no such future, and the released code protects none then. Only where `as_prompt` says
// that the decoded tokens of each sequence stand for a prompt (text that was fed token by token) is
// anything protected here: the `protect_share` most important of them, per sequence and layer.
class OdpProtection {
 public:
  // Reads `protect`, `as_prompt` and `protect_share`. Throws UserError, naming the tensor, where
  // the trace lacks what the form needs; and for the paper's form without as_prompt.
  OdpProtection(Section& config, const RoutingContext& context);

  // `row`: of the trace.
  [[nodiscard]] bool covers(std::size_t row, LayerId layer) const {
    const std::size_t cell = row * layers_ + index(layer);
    return cell < protected_.size() && protected_[cell] != 0;
  }

 private:
  void protect_sequence(const Trace& trace, const std::vector<std::size_t>& rows, bool by_attention,
                        double share);

  std::size_t layers_;
  std::vector<std::uint8_t> protected_;  // [tokens, layers]; empty where nothing is protected
};

}  // namespace moesim
