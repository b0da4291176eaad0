// Matrices and vectors for the tests of the kernels. Without the rest of the project, because these
// tests are compiled for other CPUs too.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "core/rng.h"
#include "kernels/reference.h"
#include "kernels/simd_target.h"
#include "kernels/weight_matrix.h"

namespace moesim::test {

// Runs `check` with each set of vector instructions that this CPU has; afterwards the best is in
// use.
template <class Check>
void on_every_target(Check check) {
  for (const std::string& target : simd_targets()) {
    CAPTURE(target);
    select_simd_target(target);
    check();
  }
  select_simd_target("");
}

inline std::vector<float> random_floats(Rng& rng, std::size_t count) {
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(rng.normal());
  return values;
}

inline std::vector<float> random_integers(Rng& rng, std::size_t count, int largest) {
  std::vector<float> values(count);
  for (float& value : values) {
    const auto draw = rng.below(2 * static_cast<std::uint64_t>(largest) + 1);
    value = static_cast<float>(static_cast<int>(draw) - largest);
  }
  return values;
}

// A matrix and the bytes that it views, at `offset` bytes behind a cache line.
class OwnedMatrix {
 public:
  OwnedMatrix(WeightFormat format, std::size_t rows, std::size_t columns,
              std::span<const float> weights, std::size_t offset = 0) {
    view_ = {format, rows, columns, nullptr};
    bytes_.resize(view_.bytes() + offset + 64);
    const auto address = reinterpret_cast<std::uintptr_t>(bytes_.data());
    std::byte* const data = bytes_.data() + (64 - address % 64) % 64 + offset;
    for (std::size_t r = 0; r < rows; ++r) {
      encode_matrix_row(view_, r, weights.subspan(r * columns, columns), data);
    }
    view_.data = data;
  }

  [[nodiscard]] const WeightMatrix& view() const { return view_; }

 private:
  std::vector<std::byte> bytes_;
  WeightMatrix view_;
};

// The first value that is off by more than its bound, as text; "" where there is none. One check
// for a whole vector, because a million of them would be slow.
inline std::string out_of_bounds(std::span<const float> values, const Reference& reference) {
  if (values.size() != reference.values.size()) return "another size";
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double error = std::abs(static_cast<double>(values[i]) - reference.values[i]);
    if (!(error <= reference.bounds[i])) {
      return "element " + std::to_string(i) + " is " + std::to_string(values[i]) + ", expected " +
             std::to_string(reference.values[i]) + " within " + std::to_string(reference.bounds[i]);
    }
  }
  return "";
}

}  // namespace moesim::test
