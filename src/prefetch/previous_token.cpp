// The experts that the same layer ran at the decode step before: ExpertFlow's baseline TLP
// (arXiv 2410.17954; routing_and_compression.md 2.1). Needs no training and costs nothing. At the
// first token of a sequence it says nothing.
#include "prefetch/path_prefetcher.h"

namespace moesim {
namespace {

class PreviousToken final : public PathPrefetcher<PreviousTokenPath> {
 public:
  PreviousToken(Section& config, const PrefetchContext& context)
      : PathPrefetcher(
            config, context.shape.layers,
            PreviousTokenPath(context.shape, read_count(config, context, context.shape.experts))) {}
};

MOESIM_REGISTER(Prefetcher, PreviousToken, "previous_token",
                About("the experts of the same layer at the token before",
                      "arXiv 2410.17954 (ExpertFlow), baseline TLP"),
                count_parameter("best experts of that visit that are named; null: all"),
                distance_parameter(), outstanding_parameter());

}  // namespace
}  // namespace moesim
