// Where the products of a calibration find their weights: apart, as the experts of a token lie.
#pragma once

#include <cstddef>
#include <numeric>

namespace moesim {

// The place after `last` of `places` numbered ones, a golden section further. Of any n calls in a
// row the nearest two places are about places / (2.6 n) apart, the most that n places can be: so a
// product meets no weights of recent ones, which a cache may hold, where the memory is more than
// three times as large as that cache, and prefetchers and address translation start anew.
// REQUIRES: places >= 1.
constexpr std::size_t next_place(std::size_t last, std::size_t places) {
  constexpr double kGoldenSection = 0.38196601125010515;
  auto step = static_cast<std::size_t>(kGoldenSection * static_cast<double>(places));
  while (std::gcd(step, places) != 1) ++step;  // so that it comes to all of them
  return (last + step) % places;
}

}  // namespace moesim
