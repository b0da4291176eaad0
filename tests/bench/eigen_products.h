// Eigen's own products of a matrix and a vector, to compare the kernels with. They are compiled for
// the CPU at hand, in a file of their own.
#pragma once

#include <cstddef>

namespace moesim::bench {

// y = w x. w: [rows, columns] row-major, x: [columns], y: [rows].
void eigen_float_product(const float* w, std::size_t rows, std::size_t columns, const float* x,
                         float* y);

// The same with fp16 weights, a row at a time: converted to fp32, then multiplied. As one
// expression Eigen would write the whole matrix anew in fp32, or convert without vectors.
void eigen_half_product(const void* w, std::size_t rows, std::size_t columns, const float* x,
                        float* y);

}  // namespace moesim::bench
