#include "compression/compressed_size.h"

namespace moesim {

CompressedSize compressed_size(const MoeModel& model, double mean_bits,
                               const SizeOptions& options) {
  const std::uint64_t table_params =
      model.embedding_params() + (model.tie_word_embeddings ? 0 : model.head_params());
  const auto tables = static_cast<double>(table_params);
  const auto experts = static_cast<double>(model.routed_params());
  const double rest = static_cast<double>(model.total_params()) - experts - tables;
  CompressedSize size;
  size.label_bits = (experts * mean_bits + rest * options.rest_bits) / (experts + rest);
  size.bytes = (tables * options.table_bits + experts * (mean_bits + options.overhead_bits) +
                rest * (options.rest_bits + options.overhead_bits)) /
               8;
  return size;
}

}  // namespace moesim
