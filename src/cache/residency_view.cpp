#include "cache/residency_view.h"

#include "cache/eviction/eviction_policy.h"
#include "core/errors.h"

namespace moesim {

double ResidencyView::eviction_score(ExpertId expert) const {
  if (policy_ == nullptr) throw InvariantError("this view of residency has no eviction policy");
  const auto experts = states_.size();
  return policy_->score(expert_key(layer_, expert, experts));
}

}  // namespace moesim
