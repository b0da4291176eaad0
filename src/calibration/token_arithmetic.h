// What the real decode loop computes beside products, and its reference too: a made-up network of a
// model's sizes. Weights are random, so that its tokens mean nothing; what counts is that every
// product of a token is done, on the right bytes, and that an error anywhere reaches the output.
//
// x: the residual stream, [hidden]. A dense part is one product y = W norm(x) with as many rows as
// its bytes give; fold() adds it to x. Norms and the sum of the experts are small_operators.h's.
// Sums run in a fixed order, so that equal products give equal bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace moesim {

// x of a token, from its row in the trace: uniform in [-1, 1).
void begin_token(std::uint32_t row, std::span<float> x);

// x[i] += scale * (y[i] + y[i + hidden] + ...), y: [any number of rows], so many that the scale
// keeps the sum as large as one of them.
void fold(std::span<const float> y, std::span<float> x);

// 64 bits that depend on every bit of `values` and their places, and on `before`.
std::uint64_t checksum_of(std::span<const float> values, std::uint64_t before);

}  // namespace moesim
