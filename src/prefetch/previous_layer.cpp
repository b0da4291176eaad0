// The expert ids of the layer before: ExpertFlow's baseline SLP (arXiv 2410.17954;
// routing_and_compression.md 2.1). A floor for real predictors, because expert ids mean nothing
// across layers. After the last layer it names the same ids in the first layers of the next token.
#include "prefetch/path_prefetcher.h"

namespace moesim {
namespace {

class PreviousLayer final : public PathPrefetcher<PreviousLayerPath> {
 public:
  PreviousLayer(Section& config, const PrefetchContext& context)
      : PathPrefetcher(
            config, context.shape.layers,
            PreviousLayerPath(context.shape, read_count(config, context, context.shape.experts))) {}
};

MOESIM_REGISTER(Prefetcher, PreviousLayer, "previous_layer",
                About("the expert ids of the layer before",
                      "arXiv 2410.17954 (ExpertFlow), baseline SLP"),
                count_parameter("best experts of that visit that are named; null: all"),
                distance_parameter(), outstanding_parameter());

}  // namespace
}  // namespace moesim
