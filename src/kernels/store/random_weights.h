// Weights out of a generator, written as their format wants them.
#pragma once

#include <cstddef>

#include "core/rng.h"
#include "kernels/weight_matrix.h"

namespace moesim {

// Fills `out` [rows * weight_row_bytes(format, columns)] with a matrix. Weights are independent,
// uniform over steps that are symmetric about 0, with variance 1 / columns but for rounding: fp16
// over 4096 steps, blocks over their codes with one scale for all (code 0 is twice as frequent as
// others).
void fill_random_weights(WeightFormat format, std::size_t rows, std::size_t columns, Rng& rng,
                         std::byte* out);

}  // namespace moesim
