#include "calibration/small_operators.h"

#include <array>
#include <cmath>

namespace moesim {
namespace {

// Sixteen sums, because compilers keep the order of a single one and would add one by one.
float sum_of_squares(std::span<const float> x) {
  std::array<float, 16> sums{};
  const std::size_t whole = x.size() / sums.size() * sums.size();
  for (std::size_t i = 0; i < whole; i += sums.size()) {
    for (std::size_t j = 0; j < sums.size(); ++j) sums[j] += x[i + j] * x[i + j];
  }
  float sum = 0;
  for (std::size_t i = whole; i < x.size(); ++i) sum += x[i] * x[i];
  for (const float part : sums) sum += part;
  return sum;
}

}  // namespace

void rms_norm(std::span<const float> x, std::span<const float> weights, std::span<float> y) {
  constexpr float kEpsilon = 1e-6F;
  const float mean = sum_of_squares(x) / static_cast<float>(x.size());
  const float scale = 1.0F / std::sqrt(mean + kEpsilon);
  for (std::size_t i = 0; i < x.size(); ++i) y[i] = x[i] * scale * weights[i];
}

void add_to(std::span<const float> x, std::span<float> y) {
  for (std::size_t i = 0; i < x.size(); ++i) y[i] += x[i];
}

void combine(std::span<const float> outputs, std::span<const float> weights, std::span<float> y) {
  for (std::size_t k = 0; k < weights.size(); ++k) {
    const auto output = outputs.subspan(k * y.size(), y.size());
    for (std::size_t i = 0; i < y.size(); ++i) y[i] += weights[k] * output[i];
  }
}

}  // namespace moesim
