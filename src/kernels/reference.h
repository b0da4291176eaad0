// What the kernels should compute, in double by Eigen from the decoded weights, and how far a
// kernel may be off. The bounds hold for any order of the additions, so for every set of
// instructions and for every tail (N. Higham, Accuracy and Stability of Numerical Algorithms, 2nd
// ed., section 3.1): a sum of n products in fp32 is off by at most gamma_n * sum |w x|, gamma_n = n
// u / (1 - n u), u = 2^-24. Weights are exact: fp16 is a subset of fp32, and code times scale has
// 19 bits.
#pragma once

#include <span>
#include <vector>

#include "kernels/gemv.h"
#include "kernels/weight_matrix.h"

namespace moesim {

struct Reference {
  std::vector<double> values;
  std::vector<double> bounds;  // Each |kernel - value| is at most this.
};

// w x. Underflow is part of the bound; overflow is not: REQUIRES that no sum overflows fp32.
Reference reference_gemv(const WeightMatrix& w, std::span<const float> x);

// The expert FFN, with the errors of gate, up and activation carried through the down matrix.
Reference reference_ffn(const ExpertWeights& expert, std::span<const float> x);

// silu(gate) * up from inputs that are themselves off by gate_error and up_error, as value and
// bound.
struct BoundedValue {
  double value = 0;
  double bound = 0;
};
BoundedValue reference_swiglu(BoundedValue gate, BoundedValue up);

// n u / (1 - n u) for u = 2^-24.
double gamma_fp32(double roundings);

}  // namespace moesim
