#include "metrics/bootstrap.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "core/rng.h"

namespace moesim {
namespace {

// Sums of runs of values, which go round.
class Circle {
 public:
  explicit Circle(std::span<const double> values)
      : size_(values.size()),
        block_(static_cast<std::size_t>(
            std::ceil(std::cbrt(static_cast<double>(values.size())) - 1e-9))) {
    sums_.reserve(2 * size_ + 1);
    sums_.push_back(0);
    for (std::size_t i = 0; i < 2 * size_; ++i) sums_.push_back(sums_.back() + values[i % size_]);
  }

  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] std::size_t block() const { return block_; }
  [[nodiscard]] std::size_t blocks() const {
    return size_ == 0 ? 0 : (size_ + block_ - 1) / block_;
  }
  // Of the values in block `number`, the last one being cut so that as many are drawn as there are.
  [[nodiscard]] double sum(std::size_t first, std::size_t number) const {
    const std::size_t length = std::min(block_, size_ - number * block_);
    return sums_[first + length] - sums_[first];
  }
  [[nodiscard]] double mean() const { return sums_[size_] / static_cast<double>(size_); }

 private:
  std::size_t size_;
  std::size_t block_;
  std::vector<double> sums_;  // [2 n + 1], of the first values, twice round
};

double draw_mean(const Circle& circle, const std::vector<std::size_t>& places) {
  double sum = 0;
  for (std::size_t i = 0; i < places.size(); ++i) sum += circle.sum(places[i], i);
  return sum / static_cast<double>(circle.size());
}

void draw_places(const Circle& circle, Rng& rng, std::vector<std::size_t>& places) {
  places.clear();
  for (std::size_t i = 0; i < circle.blocks(); ++i) {
    places.push_back(static_cast<std::size_t>(rng.below(circle.size())));
  }
}

}  // namespace

std::optional<RatioInterval> bootstrap_ratio(std::span<const double> a, std::span<const double> b,
                                             bool paired, std::uint64_t seed) {
  const Circle of_a(a);
  const Circle of_b(b);
  if (std::min(of_a.blocks(), of_b.blocks()) < kLeastBlocks) return std::nullopt;
  Rng rng = Rng::for_component(seed, "bootstrap");
  std::vector<std::size_t> places_a;
  std::vector<std::size_t> places_b;
  places_a.reserve(of_a.blocks());
  places_b.reserve(of_b.blocks());
  std::vector<double> ratios;
  ratios.reserve(kResamples);
  for (std::size_t i = 0; i < kResamples; ++i) {
    draw_places(of_a, rng, places_a);
    if (!paired) draw_places(of_b, rng, places_b);
    const double mean_a = draw_mean(of_a, places_a);
    const double mean_b = draw_mean(of_b, paired ? places_a : places_b);
    if (!(mean_a > 0 && mean_b > 0)) return std::nullopt;
    ratios.push_back(mean_a / mean_b);
  }
  std::sort(ratios.begin(), ratios.end());
  const auto at = [&](double share) {
    return ratios[static_cast<std::size_t>(std::lround(share * (kResamples - 1)))];
  };
  return RatioInterval{of_a.mean() / of_b.mean(), at(0.025), at(0.975), of_a.block(), of_b.block()};
}

}  // namespace moesim
