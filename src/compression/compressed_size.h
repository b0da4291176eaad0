// How large a model is whose experts have few bits, in the terms in which MC-MoE reports it
// (routing_and_compression.md, sections 1.1 and 1.3).
#pragma once

#include "model/moe_model.h"

namespace moesim {

struct SizeOptions {
  double overhead_bits = 0.175;  // scales and zero points, per quantised weight
  double rest_bits = 4;          // attention, routers and what else is not a routed expert
  double table_bits = 16;        // input table and head
};

struct CompressedSize {
  // The label under which results are published: mean bits of the quantised weights, routed experts
  // and the rest together, tables and overhead left out.
  double label_bits = 0;
  double bytes = 0;  // tables and overhead included
};

// `mean_bits`: of the routed experts' weights, overhead left out.
CompressedSize compressed_size(const MoeModel& model, double mean_bits, const SizeOptions& options);

}  // namespace moesim
