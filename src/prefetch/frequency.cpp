// The most used experts of a layer: a hot list, either of the run so far or, with a training part,
// of that part and then fixed (routing_and_compression.md 2.5; the static hot list of
// cache_aware_routing.md 7.3).
#include "prefetch/path_prefetcher.h"
#include "prefetch/training.h"

namespace moesim {
namespace {

class Frequency final : public PathPrefetcher<PopularityPath> {
 public:
  Frequency(Section& config, const PrefetchContext& context)
      : PathPrefetcher(
            config, context.shape.layers,
            PopularityPath(context.shape, read_count(config, context, usual_count(context)))) {
    if (gives_training(config)) train(read_training(config, context), context);
  }

  void observe(LayerId layer, std::span<const ExpertId> executed) override {
    if (trained_rows_ == 0) path().observe(layer, executed);
  }
  [[nodiscard]] std::uint32_t trained_rows() const override { return trained_rows_; }

 private:
  void train(const TrainingPart& part, const PrefetchContext& context) {
    NativeReader reader(context);
    for (const std::uint32_t row : part.rows) {
      for (std::size_t l = 0; l < context.shape.layers; ++l) {
        const auto layer = static_cast<LayerId>(l);
        path().observe(layer, reader.read(row, layer));
      }
    }
    trained_rows_ = part.end_row();
  }

  std::uint32_t trained_rows_ = 0;
};

MOESIM_REGISTER(Prefetcher, Frequency, "frequency",
                About("the most used experts of the layer, so far or in a training part",
                      "routing_and_compression.md 2.5; static hot list of BigMoeOnEdge"),
                count_parameter(), train_fraction_parameter("counts go on during the run"),
                train_tokens_parameter(), distance_parameter(), outstanding_parameter());

}  // namespace
}  // namespace moesim
