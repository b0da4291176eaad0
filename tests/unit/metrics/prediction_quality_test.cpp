#include "metrics/prediction_quality.h"

#include <doctest/doctest.h>

namespace moesim::test {
namespace {

std::vector<Access> ran(std::initializer_list<int> experts) {
  std::vector<Access> accesses;
  for (const int expert : experts) {
    accesses.push_back({static_cast<ExpertId>(expert), AccessKind::kHit, false, 0});
  }
  return accesses;
}

std::vector<ExpertKey> keys(std::initializer_list<int> experts) {
  std::vector<ExpertKey> result;
  for (const int expert : experts) result.push_back(static_cast<ExpertKey>(expert));
  return result;
}

constexpr LayerId kFirst{0};
constexpr LayerId kSecond{1};

}  // namespace

TEST_SUITE("metrics/prediction_quality") {
  TEST_CASE("acceptance test 5: R = {a, b, c} and R^ = {a, b, d} give 2/3") {
    PredictionQuality quality({0, 1, 8});
    quality.add(kFirst, ran({0, 1, 2}), keys({0, 1, 3}));
    CHECK(quality.result().recall == doctest::Approx(2.0 / 3.0).epsilon(1e-12));
    CHECK(quality.result().precision == doctest::Approx(2.0 / 3.0).epsilon(1e-12));
  }

  TEST_CASE("recall is averaged over layers, precision over all that was named") {
    PredictionQuality quality({0, 2, 8});
    quality.add(kFirst, ran({0, 1}), keys({0, 1}));              // 1
    quality.add(kFirst, ran({2, 3}), keys({3}));                 // 1/2
    quality.add(kSecond, ran({0, 1, 2, 3}), keys({8, 12, 13}));  // 1/4: keys of layer 1 are 8 to 15
    const PredictionResult result = quality.result();
    CHECK(result.by_layer == std::vector{0.75, 0.25});
    CHECK(result.recall == 0.5);
    CHECK(result.named == 6);
    CHECK(result.right == 4);
    CHECK(result.precision == doctest::Approx(4.0 / 6.0).epsilon(1e-12));
    CHECK(result.visits == 3);
    CHECK(result.predicted == 3);
  }

  TEST_CASE("a visit about which nothing was said counts with recall 0 and names nobody") {
    PredictionQuality quality({0, 1, 8});
    quality.add(kFirst, ran({0, 1}), keys({0, 1}));
    quality.add(kFirst, ran({0, 1}), {});
    CHECK(quality.result().recall == 0.5);
    CHECK(quality.result().precision == 1);
    CHECK(quality.result().predicted == 1);
    CHECK(PredictionQuality({0, 1, 8}).result().recall == 0);
  }

  TEST_CASE("layers that no token visits do not count") {
    PredictionQuality quality({0, 3, 8});
    quality.add(kSecond, ran({0}), keys({8}));
    CHECK(quality.result().recall == 1);
    CHECK(quality.result().by_layer == std::vector{0.0, 1.0, 0.0});
  }
}

}  // namespace moesim::test
