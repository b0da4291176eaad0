// What a configuration asks of the real decode loop: whether it can be done, and what it takes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "calibration/dense_weights.h"
#include "engine/run_plan.h"
#include "kernels/store/expert_store.h"
#include "kernels/weight_matrix.h"

namespace moesim {

// UserError naming the first key of a configuration that the real decode loop cannot do.
void require_real(const RunPlan& plan);

// The file that the run's experts are read from. REQUIRES: require_real(), as all that follows.
StoreShape store_shape(const RunPlan& plan, std::uint64_t seed);
// The format of the dense weights.
WeightFormat dense_format(const RunPlan& plan);
// The longest context of the run.
std::uint32_t longest_context(const RunPlan& plan);
// Experts that are held at once, those of a visit under way included.
std::size_t slots_needed(const RunPlan& plan);

struct RealMemory {
  std::uint64_t dense = 0;    // key-value cache included
  std::uint64_t experts = 0;  // of the arena
  [[nodiscard]] std::uint64_t total() const { return dense + experts; }
};
RealMemory memory_needed(const RunPlan& plan);

// What the outputs of RealDecode must be: the same tokens computed the plain way. One thread, one
// layer after the other, every expert read from the file by ordinary reads when it is needed and
// compared with the checksum that it was written with; the plan decides which. UserError where the
// file is damaged. The plan's session is used up. Of the first `passes` only: it is slow.
std::vector<std::uint64_t> reference_outputs(RunPlan& plan, const DenseWeights& dense,
                                             const ExpertStore& store, std::size_t passes);

}  // namespace moesim
