#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "core/errors.h"
#include "kernels/gemv.h"
#include "kernels/row_kernels.h"
#include "support/allocation_counter.h"
#include "support/kernels.h"

namespace moesim::test {

TEST_SUITE("kernels/expert_ffn") {
  struct Expert {
    OwnedMatrix gate;
    OwnedMatrix up;
    OwnedMatrix down;
    [[nodiscard]] ExpertWeights view() const { return {gate.view(), up.view(), down.view()}; }
  };

  Expert random_expert(Rng & rng, WeightFormat format, std::size_t hidden, std::size_t intermediate,
                       std::size_t offset = 0) {
    const std::size_t count = hidden * intermediate;
    return {{format, intermediate, hidden, random_floats(rng, count), offset},
            {format, intermediate, hidden, random_floats(rng, count), offset},
            {format, hidden, intermediate, random_floats(rng, count), offset}};
  }

  std::vector<float> run(const ExpertWeights& expert, std::span<const float> x, ThreadTeam& team) {
    std::vector<float> scratch(2 * expert.gate.rows, std::numeric_limits<float>::quiet_NaN());
    std::vector<float> y(expert.down.rows);
    expert_ffn(expert, x, scratch, y, team);
    return y;
  }

  TEST_CASE("an expert of two by one, worked out by hand") {
    // gate = 2, up = 3: silu(2) * 3 = 5.284782 (silu(2) = 2 / (1 + exp(-2)) = 1.761594).
    const std::vector<float> gate{1, 1};
    const std::vector<float> up{3, 0};
    const std::vector<float> down{1, -2};
    const Expert expert{{WeightFormat::kFp16, 1, 2, gate},
                        {WeightFormat::kFp16, 1, 2, up},
                        {WeightFormat::kFp16, 2, 1, down}};
    const std::vector<float> x{1, 1};
    ThreadTeam team(1);
    on_every_target([&] {
      const auto y = run(expert.view(), x, team);
      CHECK(y[0] == doctest::Approx(5.2847825).epsilon(1e-6));
      CHECK(y[1] == doctest::Approx(-10.569565).epsilon(1e-6));
    });
  }

  TEST_CASE("odd shapes, offsets and numbers of threads, within the bound and equal to the bit") {
    Rng rng(11);
    struct Shape {
      std::size_t hidden, intermediate;
    };
    for (const WeightFormat format : kWeightFormats) {
      for (const Shape shape : {Shape{1, 1}, {3, 2}, {17, 33}, {64, 96}, {130, 71}, {256, 9001}}) {
        CAPTURE(shape.hidden);
        const Expert expert =
            random_expert(rng, format, shape.hidden, shape.intermediate, shape.hidden % 64);
        auto x = random_floats(rng, shape.hidden);
        for (float& value : x) value /= std::sqrt(static_cast<float>(shape.hidden));
        const Reference reference = reference_ffn(expert.view(), x);
        on_every_target([&] {
          ThreadTeam one(1);
          const auto expected = run(expert.view(), x, one);
          CHECK(out_of_bounds(expected, reference) == "");
          for (std::size_t threads = 2; threads <= 4; ++threads) {
            ThreadTeam team(threads);
            CHECK(run(expert.view(), x, team) == expected);
          }
        });
      }
    }
  }

  TEST_CASE("matrices may have different formats") {
    Rng rng(12);
    const std::size_t hidden = 70;
    const std::size_t intermediate = 90;
    const auto weights = random_floats(rng, hidden * intermediate);
    const Expert expert{{WeightFormat::kQ4, intermediate, hidden, weights},
                        {WeightFormat::kQ8, intermediate, hidden, weights},
                        {WeightFormat::kFp16, hidden, intermediate, weights}};
    const auto x = random_floats(rng, hidden);
    const Reference reference = reference_ffn(expert.view(), x);
    ThreadTeam team(2);
    on_every_target([&] { CHECK(out_of_bounds(run(expert.view(), x, team), reference) == ""); });
  }

  TEST_CASE("the activation from -200 to 200 and of every length, within its bound") {
    std::vector<float> gate;
    for (int i = -20000; i <= 20000; ++i) gate.push_back(static_cast<float>(i) * 0.01F);
    Reference reference;
    for (const float value : gate) {
      const BoundedValue expected = reference_swiglu({static_cast<double>(value), 0}, {-1.25, 0});
      reference.values.push_back(expected.value);
      reference.bounds.push_back(expected.bound);
    }
    const std::vector<float> up(gate.size(), -1.25F);
    on_every_target([&] {
      auto whole = gate;
      swiglu(whole.data(), up.data(), whole.size());
      CHECK(out_of_bounds(whole, reference) == "");
      for (std::size_t count = 0; count <= 70; ++count) {
        auto part = gate;
        swiglu(part.data() + 20000, up.data(), count);
        bool same = true;
        for (std::size_t i = 0; i < part.size(); ++i) {
          const bool done = i >= 20000 && i < 20000 + count;
          same = same && part[i] == (done ? whole[i] : gate[i]);
        }
        CHECK(same);
      }
    });
  }

  TEST_CASE("the activation of what is not finite") {
    const float infinity = std::numeric_limits<float>::infinity();
    on_every_target([&] {
      std::vector<float> gate{infinity, std::numeric_limits<float>::quiet_NaN(), -1000, 0};
      const std::vector<float> up{1, 1, 1, 1};
      swiglu(gate.data(), up.data(), gate.size());
      CHECK(gate[0] == infinity);
      CHECK(std::isnan(gate[1]));
      CHECK(std::abs(gate[2]) < 1e-34F);
      CHECK(gate[3] == 0);
    });
  }

  TEST_CASE("no call allocates") {
    Rng rng(13);
    const Expert expert = random_expert(rng, WeightFormat::kQ4, 96, 64);
    const auto x = random_floats(rng, 96);
    std::vector<float> scratch(128);
    std::vector<float> y(96);
    ThreadTeam team(3);
    const auto calls = [&] {
      expert_ffn(expert.view(), x, scratch, y, team);
      gemv(expert.view().down, {scratch.data(), 64}, y, team);
    };
    calls();
    const std::size_t before = allocations();
    for (int i = 0; i < 100; ++i) calls();
    CHECK(allocations() == before);
  }

  TEST_CASE("shapes that do not fit are refused") {
    Rng rng(14);
    ThreadTeam team(1);
    const Expert expert = random_expert(rng, WeightFormat::kFp16, 4, 6);
    const Expert other = random_expert(rng, WeightFormat::kFp16, 4, 5);
    std::vector<float> x(4);
    std::vector<float> y(4);
    std::vector<float> scratch(12);
    std::vector<float> wrong(3);
    const auto refused = [&](const ExpertWeights& weights, std::span<const float> in,
                             std::span<float> between, std::span<float> out, const char* message) {
      CHECK_THROWS_WITH_AS(expert_ffn(weights, in, between, out, team), message, InvariantError);
    };
    const char* const shapes = "an expert's matrices do not fit each other";
    const char* const sizes = "an expert's input or output has another size than it";
    ExpertWeights mixed = expert.view();
    mixed.up = other.view().up;
    refused(mixed, x, scratch, y, shapes);
    mixed = expert.view();
    mixed.down = other.view().down;
    refused(mixed, x, scratch, y, shapes);
    refused(expert.view(), wrong, scratch, y, sizes);
    refused(expert.view(), x, scratch, wrong, sizes);
    refused(expert.view(), x, wrong, y, "an expert's scratch has another size than twice its rows");
  }
}

}  // namespace moesim::test
