// What is written with vector instructions: the work of one thread on a range of rows or elements.
// Each function runs the code for the vector instructions that kernels/simd_target.h has selected.
// Nothing here allocates. Programs call kernels/gemv.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/weight_matrix.h"

namespace moesim {

// y[r] = sum over c of w[r, c] * x[c] for the rows r in [first, last); the rest of y is left alone.
// A row's result does not depend on the range, so not on how many threads share the rows.
// x: [columns], y: [rows], aligned as floats are; they do not overlap.
void gemv_rows(const WeightMatrix& w, std::size_t first, std::size_t last, const float* x,
               float* y);

// The same for one panel of format fp16, q8 or q4. x: [columns of the panel]. The sums of the first
// panel are put into y, those of the others added.
void half_rows(const WeightPanel& w, std::size_t first, std::size_t last, const float* x, float* y);
void q8_rows(const WeightPanel& w, std::size_t first, std::size_t last, const float* x, float* y);
void q4_rows(const WeightPanel& w, std::size_t first, std::size_t last, const float* x, float* y);

// gate[i] = silu(gate[i]) * up[i], silu(v) = v / (1 + exp(-v)).
void swiglu(float* gate, const float* up, std::size_t count);

// The sum modulo 2^64 of `words` 64-bit words at `data`, any alignment: memory read as fast as one
// core can.
std::uint64_t sum_words(const std::byte* data, std::size_t words);

}  // namespace moesim
