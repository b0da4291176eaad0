// A predictor that is always right: it names the experts of the coming layer visits, nearest first.
// The upper bound for every predictor that looks as far ahead.
#include "prefetch/path_prefetcher.h"

namespace moesim {
namespace {

constexpr std::uint64_t kMaxDistance = 1U << 20;

class Oracle final : public PathPrefetcher<FuturePath> {
 public:
  Oracle(Section& config, const PrefetchContext& context)
      : PathPrefetcher(config, kMaxDistance, FuturePath(context.future)) {}
};

MOESIM_REGISTER(Prefetcher, Oracle, "oracle",
                About("always right about the coming layer visits", "upper bound of any predictor"),
                distance_parameter("[1, 1048576]"), outstanding_parameter());

}  // namespace
}  // namespace moesim
