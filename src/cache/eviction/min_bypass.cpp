// Belady's MIN with bypass: after an event the experts with the nearest next use stay, out of the
// residents and the event's own, so that an expert may be read without being kept. The bound for
// all policies that leave the routing alone, where experts are of equal size
// (cache_aware_routing.md 4.3).
#include "cache/eviction/next_use_policy.h"

namespace moesim {
namespace {

class MinBypass final : public NextUsePolicy {
 public:
  MinBypass(Section& /*config*/, const EvictionContext& context) : NextUsePolicy(context) {}
};

MOESIM_REGISTER(EvictionPolicy, MinBypass, "min_bypass",
                About("offline: the experts with the nearest next use stay; what is read may not "
                      "enter",
                      "MIN with bypass: the lower bound for event accounting and equal sizes"));

}  // namespace
}  // namespace moesim
