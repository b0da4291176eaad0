// How long real products took beside what the simulation has for each of them alone, apart by where
// the weights were: an error of the whole is then seen to be one of products or of what surrounds
// them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "core/units.h"

namespace moesim {

// Products of weights outside the experts, of experts that were resident, and of those that had
// been read for this visit.
enum class ProductKind : std::uint8_t { kDense, kResident, kRead };
inline constexpr std::size_t kProductKinds = 3;

struct ProductTime {
  Duration real{};
  Duration simulated{};     // while nobody else uses DRAM
  std::uint64_t bytes = 0;  // of weights, and of the key-value cache with attention's

  [[nodiscard]] double real_gbps() const { return gbps(real); }
  [[nodiscard]] double simulated_gbps() const { return gbps(simulated); }

 private:
  // REQUIRES: a product that took time.
  [[nodiscard]] double gbps(Duration time) const {
    return static_cast<double>(bytes) / to_ms(time) * 1e-6;
  }
};

using ProductTimes = std::array<ProductTime, kProductKinds>;

}  // namespace moesim
