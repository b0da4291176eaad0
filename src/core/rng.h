// Random numbers that are equal on every platform: splitmix64 and draws of our own, because the
// standard distributions differ between libraries. One seed per run is split per component.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <string_view>

namespace moesim {

class Rng {
 public:
  explicit Rng(std::uint64_t seed) : state_(seed) {}

  // A generator of its own for the component `name`, so that one more draw in a component does not
  // change another. FNV-1a over the name.
  [[nodiscard]] static Rng for_component(std::uint64_t seed, std::string_view name) {
    std::uint64_t hash = 0xCBF29CE484222325U;
    for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3U;
    return Rng(Rng(seed ^ hash).next());
  }

  // splitmix64 (Steele, Lea, Flood 2014).
  std::uint64_t next() {
    state_ += 0x9E3779B97F4A7C15U;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31);
  }

  // Uniform in [0, bound), without modulo bias. REQUIRES: bound > 0.
  std::uint64_t below(std::uint64_t bound) {
    __extension__ using Product = unsigned __int128;
    const std::uint64_t threshold = (0 - bound) % bound;
    for (;;) {
      const Product product = Product{next()} * bound;
      if (static_cast<std::uint64_t>(product) >= threshold) {
        return static_cast<std::uint64_t>(product >> 64);
      }
    }
  }

  // Uniform in [0, 1) with 53 bits.
  double uniform() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }

  // Standard normal (Box-Muller, one value per call).
  double normal() {
    const double u = 1.0 - uniform();
    return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * uniform());
  }

 private:
  std::uint64_t state_;
};

}  // namespace moesim
