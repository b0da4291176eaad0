// Belady's MIN with forced insertion: before each entering expert the resident with the farthest
// next use leaves; what enters stays, used again or not (cache_aware_routing.md 1.9). Members of
// the event count with the use after it and are not protected.
#include "cache/eviction/next_use_policy.h"

namespace moesim {
namespace {

class Belady final : public NextUsePolicy {
 public:
  Belady(Section& /*config*/, const EvictionContext& context) : NextUsePolicy(context) {}
  [[nodiscard]] Insertion insertion() const override { return Insertion::kOneByOne; }
};

MOESIM_REGISTER(
    EvictionPolicy, Belady, "belady",
    About("offline: the expert with the farthest next use leaves; what is read enters",
          "Belady, IBM Systems Journal 5 (1966); forced insertion as in arXiv 2412.00099"));

}  // namespace
}  // namespace moesim
