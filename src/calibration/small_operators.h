// The small operators of a decoder layer, as a decode loop runs them between its products: one
// thread, fp32. Nothing allocates.
#pragma once

#include <cstddef>
#include <span>

namespace moesim {

// y = x / rms(x) * weights (RMSNorm, Zhang and Sennrich 2019, epsilon 1e-6). All [n].
void rms_norm(std::span<const float> x, std::span<const float> weights, std::span<float> y);

// y += x. Both [n].
void add_to(std::span<const float> x, std::span<float> y);

// y += the sum of the rows of `outputs`, [weights.size(), n], each times its weight. y: [n].
void combine(std::span<const float> outputs, std::span<const float> weights, std::span<float> y);

}  // namespace moesim
