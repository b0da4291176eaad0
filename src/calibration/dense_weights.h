// The weights outside the routed experts, in memory for real: for every dense part of a token one
// matrix with the bytes that the simulation charges for it, the key-value cache behind those of
// attention. What they are is made up (token_arithmetic.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/task_costs.h"
#include "kernels/store/page_memory.h"
#include "kernels/weight_matrix.h"
#include "model/moe_model.h"
#include "model/token_graph.h"

namespace moesim {

class DenseWeights {
 public:
  // `positions`: the longest context. `format`: that of WeightBits::dense. UserError where memory
  // does not suffice.
  DenseWeights(const MoeModel& model, const TaskCosts& costs, WeightFormat format,
               std::uint32_t positions);

  // Memory that all of them take.
  static std::uint64_t bytes(const MoeModel& model, const TaskCosts& costs, WeightFormat format,
                             std::uint32_t positions);

  // The matrix of a task without an expert for a token at `position`: columns = hidden size.
  [[nodiscard]] WeightMatrix matrix(const Task& task, std::uint32_t position) const;
  // Rows of the largest one.
  [[nodiscard]] std::size_t most_rows() const { return most_rows_; }

 private:
  // The first `rows` rows of the matrix at a place of `offsets_`.
  [[nodiscard]] WeightMatrix stored(std::size_t place, std::size_t rows) const;

  const TaskCosts& costs_;
  WeightFormat format_;
  std::size_t hidden_;
  std::size_t row_bytes_;
  PageMemory memory_;
  std::vector<std::size_t> offsets_;  // [hidden layers * dense kinds + 1], in rows
  std::size_t most_rows_ = 0;
};

}  // namespace moesim
