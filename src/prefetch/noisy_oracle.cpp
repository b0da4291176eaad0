// A predictor of given quality, to sweep what learned predictors report: every true expert is
// named with probability `recall`, and false ones are added until `precision` of the named are
// true (routing_and_compression.md 2.5; cache_aware_routing.md 4.3). `predictor_mib` charges what
// such a predictor reads; ExpertFlow's takes 7.21 MB (routing_and_compression.md 2.1).
#include <fmt/format.h>

#include "core/rng.h"
#include "prefetch/path_prefetcher.h"

namespace moesim {
namespace {

constexpr std::uint64_t kMaxDistance = 1U << 20;
constexpr double kMaxPredictorMib = 1 << 20;

PredictionNoise read_noise(Section& config, const PrefetchContext& context) {
  PredictionNoise noise;
  noise.recall = config.number("recall", kUnitInterval);
  noise.precision = config.number("precision", {0.0, 1.0, true});
  noise.seed = Rng::for_component(context.seed, "noisy_oracle").next();
  if (context.shape.experts == 0) return noise;
  // With every expert of a layer named, k in E are true: then no more false ones are left.
  const double lowest = static_cast<double>(context.k) / static_cast<double>(context.shape.experts);
  if (noise.precision < lowest) {
    throw config.error(
        "precision", fmt::format("expected at least {:.4f} (k = {} of {} experts), got {}", lowest,
                                 context.k, context.shape.experts, noise.precision));
  }
  return noise;
}

class NoisyOracle final : public PathPrefetcher<NoisyFuturePath> {
 public:
  NoisyOracle(Section& config, const PrefetchContext& context)
      : PathPrefetcher(config, kMaxDistance,
                       NoisyFuturePath(context.shape, context.future, read_noise(config, context))),
        predictor_bytes_(static_cast<std::uint64_t>(
            config.number("predictor_mib", {0.0, kMaxPredictorMib}) * static_cast<double>(kMiB))) {}

  [[nodiscard]] std::uint64_t predictor_bytes(const PrefetchQuery& /*query*/) const override {
    return predictor_bytes_;
  }

 private:
  std::uint64_t predictor_bytes_;
};

MOESIM_REGISTER(Prefetcher, NoisyOracle, "noisy_oracle",
                About("right as often as it is told: recall and precision are given",
                      "routing_and_compression.md 2.5, for the band that arXiv 2410.17954 reports"),
                {"recall", 0.9, "share of the true experts that are named", "number", "[0, 1]",
                 "routing_and_compression.md 2.5"},
                {"precision", 0.9,
                 "share of the named experts that are true; not below what naming the whole layer "
                 "gives",
                 "number", "(0, 1]", "routing_and_compression.md 2.5"},
                {"predictor_mib", 0, "weights that the cores read for each prediction", "number",
                 "[0, 1048576]", "own"},
                distance_parameter("[1, 1048576]"), outstanding_parameter());

}  // namespace
}  // namespace moesim
