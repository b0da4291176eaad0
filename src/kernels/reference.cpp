#include "kernels/reference.h"

#include <Eigen/Core>
#include <cmath>

namespace moesim {
namespace {

// Below this an fp32 result is no longer off by a factor 1 + u but by an amount.
constexpr double kUnderflow = 0x1p-150;
// |silu'| is at most 1.09984, at 2.3994.
constexpr double kSiluSlope = 1.1;
// silu in fp32: the exponential is off by up to 2 u (Highway: one unit in the last place),
// addition, division and product by u each; squares of u are in the sixth.
constexpr double kActivationRoundings = 6;
// Below -88 the kernel's exponential stays at exp(88): silu is off by at most |v| exp(-88).
constexpr double kClampedTail = 0x1p-126;

using Row = Eigen::Map<const Eigen::RowVectorXf>;

Eigen::RowVectorXd decoded_row(const WeightMatrix& w, std::size_t row, std::vector<float>& floats) {
  floats.resize(w.columns);
  decode_matrix_row(w, row, floats);
  return Row(floats.data(), static_cast<Eigen::Index>(floats.size())).cast<double>();
}

// A product whose input is off by `x_bounds` (empty: exact).
Reference product(const WeightMatrix& w, const Eigen::VectorXd& x,
                  const Eigen::VectorXd& x_bounds) {
  Reference result;
  result.values.reserve(w.rows);
  result.bounds.reserve(w.rows);
  std::vector<float> floats;
  // In a block one rounding more than products: that of the scale.
  const double gamma = gamma_fp32(static_cast<double>(w.columns) + 1);
  const double underflow = 2 * static_cast<double>(w.columns + 1) * kUnderflow;
  for (std::size_t r = 0; r < w.rows; ++r) {
    const Eigen::RowVectorXd weights = decoded_row(w, r, floats);
    const Eigen::RowVectorXd magnitudes = weights.cwiseAbs();
    const double inherited = magnitudes.dot(x_bounds);
    result.values.push_back(weights.dot(x));
    result.bounds.push_back(inherited + gamma * (magnitudes.dot(x.cwiseAbs()) + inherited) +
                            underflow * (1 + magnitudes.sum()));
  }
  return result;
}

Eigen::VectorXd in_double(std::span<const float> x) {
  return Eigen::Map<const Eigen::VectorXf>(x.data(), static_cast<Eigen::Index>(x.size()))
      .cast<double>();
}

}  // namespace

double gamma_fp32(double roundings) {
  const double product = roundings * 0x1p-24;
  return product / (1 - product);
}

BoundedValue reference_swiglu(BoundedValue gate, BoundedValue up) {
  const double silu = gate.value / (1 + std::exp(-gate.value));
  const double silu_inherited = kSiluSlope * gate.bound + kClampedTail * std::abs(gate.value);
  const double inherited =
      std::abs(silu) * up.bound + std::abs(up.value) * silu_inherited + silu_inherited * up.bound;
  const double value = silu * up.value;
  return {value, inherited + gamma_fp32(kActivationRoundings) * (std::abs(value) + inherited) +
                     2 * kUnderflow};
}

Reference reference_gemv(const WeightMatrix& w, std::span<const float> x) {
  return product(w, in_double(x), Eigen::VectorXd::Zero(static_cast<Eigen::Index>(x.size())));
}

Reference reference_ffn(const ExpertWeights& expert, std::span<const float> x) {
  const Reference gate = reference_gemv(expert.gate, x);
  const Reference up = reference_gemv(expert.up, x);
  const auto rows = static_cast<Eigen::Index>(expert.gate.rows);
  Eigen::VectorXd hidden(rows);
  Eigen::VectorXd bounds(rows);
  for (Eigen::Index i = 0; i < rows; ++i) {
    const auto at = static_cast<std::size_t>(i);
    const BoundedValue activated =
        reference_swiglu({gate.values[at], gate.bounds[at]}, {up.values[at], up.bounds[at]});
    hidden[i] = activated.value;
    bounds[i] = activated.bound;
  }
  return product(expert.down, hidden, bounds);
}

}  // namespace moesim
