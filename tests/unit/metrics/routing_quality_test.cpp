#include "metrics/routing_quality.h"

#include "support/allocation_counter.h"
#include "support/routing.h"
#include "support/testing.h"

namespace moesim::test {
namespace {

constexpr LayerId kFirst{0};
constexpr LayerId kSecond{1};

Selection selection(const std::vector<std::uint16_t>& ids) {
  Selection result;
  for (const std::uint16_t id : ids) result.ids.push_back(ExpertId{id});
  return result;
}

// p = .5 .3 .15 .05, k = 2.
const std::vector<float> kLogits{std::log(0.5F), std::log(0.3F), std::log(0.15F), std::log(0.05F)};

class Fixture {
 public:
  Fixture() { gate.set_logits(kLogits, {}); }
  void add(const std::vector<std::uint16_t>& ids, LayerId layer = kFirst) {
    quality.add(layer, gate, selection(ids));
  }
  Gate gate{gate_of('A'), 4, 2};
  RoutingQuality quality{{0, 2, 4}, 2, 4, 100};
};

}  // namespace

TEST_SUITE("metrics/routing_quality") {
  TEST_CASE("equal sets in any order have exact proxies") {
    Fixture f;
    f.add({1, 0});
    const RoutingQualityResult result = f.quality.result();
    CHECK(result.mean.agreement == 1);
    CHECK(result.mean.retained_mass == 1.0);
    CHECK(near(result.mean.retained_mass_absolute.value(), 0.8, 1e-7));
    for (const auto& proxy :
         {result.mean.dropped_mass, result.mean.total_variation, result.mean.jensen_shannon,
          result.mean.gate_l2, result.mean.logit_regret, result.p95.gate_l2}) {
      CHECK(proxy == 0.0);
    }
    CHECK(result.added == 0);
    CHECK(result.removed == 0);
  }

  TEST_CASE("a swap, worked by hand") {
    // g = 5/8 3/8 0; g~ = 10/13 0 3/13.
    Fixture f;
    f.add({0, 2});
    const RoutingQualityResult result = f.quality.result();
    const RoutingProxies& mean = result.mean;
    CHECK(mean.agreement == 0.5);
    CHECK(near(mean.retained_mass.value(), 0.65 / 0.8, 1e-7));
    CHECK(near(mean.retained_mass_absolute.value(), 0.65, 1e-7));
    CHECK(near(mean.dropped_mass.value(), 0.375, 1e-7));
    CHECK(near(mean.total_variation.value(), 0.375, 1e-7));
    CHECK(near(mean.logit_regret.value(), std::log(2.0), 1e-7));
    CHECK(mean.skipped_mass == 0.0);
    const double a = 5.0 / 8;
    const double b = 10.0 / 13;
    const double divergence = (a * std::log(2 * a / (a + b)) + 3.0 / 8 * std::log(2.0) +
                               b * std::log(2 * b / (a + b)) + 3.0 / 13 * std::log(2.0)) /
                              2;
    CHECK(near(mean.jensen_shannon.value(), divergence, 1e-7));
    const double l2 =
        std::sqrt((a - b) * (a - b) + 9.0 / 64 + 9.0 / 169) / std::sqrt(a * a + 9.0 / 64);
    CHECK(near(mean.gate_l2.value(), l2, 1e-7));
    CHECK(result.added == 1);
    CHECK(result.removed == 1);
    CHECK(result.displaced_by_rank == std::vector<std::uint64_t>{0, 1});
    CHECK(result.promoted_by_rank == std::vector<std::uint64_t>{0, 0, 1, 0});
  }

  TEST_CASE("dropping is skipped mass and has no regret, adding is not skipped") {
    Fixture f;
    f.add({0});
    CHECK(near(f.quality.result().mean.skipped_mass.value(), 0.375, 1e-7));
    CHECK(!f.quality.result().mean.logit_regret.has_value());
    CHECK(f.quality.result().experts_histogram == std::vector<std::uint64_t>{0, 1, 0, 0, 0});
    f.quality.start();
    f.add({0, 1, 2});
    CHECK(f.quality.result().mean.skipped_mass == 0.0);
    CHECK(near(f.quality.result().mean.retained_mass.value(), 0.95 / 0.8, 1e-7));
    CHECK(f.quality.result().mean.experts == 3);
    CHECK(f.quality.result().added == 1);
  }

  TEST_CASE("means are per layer and in all, and start() forgets the warm-up") {
    Fixture f;
    f.add({2, 3}, kSecond);
    f.quality.start();
    CHECK(f.quality.result().mean.visits == 0);
    CHECK(!f.quality.result().p95.gate_l2.has_value());
    f.add({0, 1}, kFirst);
    f.add({0, 2}, kSecond);
    const RoutingQualityResult result = f.quality.result();
    CHECK(result.by_layer[0].agreement == 1);
    CHECK(result.by_layer[1].agreement == 0.5);
    CHECK(result.mean.agreement == 0.75);
    CHECK(near(result.mean.dropped_mass.value(), 0.375 / 2, 1e-7));
    CHECK(result.displaced_by_rank == std::vector<std::uint64_t>{0, 1});
  }

  TEST_CASE("p95 is element ceil(0.95 n) of the sorted values, zeros included") {
    Fixture f;
    for (int i = 0; i < 19; ++i) f.add({0, 1});
    f.add({0, 2});
    CHECK(f.quality.result().p95.dropped_mass == 0.0);  // element 19 of 20
    f.add({0, 2});
    CHECK(near(f.quality.result().p95.dropped_mass.value(), 0.375, 1e-7));  // 20 of 21
    f.add({2, 3});
    CHECK(near(f.quality.result().p95.dropped_mass.value(), 0.375, 1e-7));  // 21 of 22
  }

  TEST_CASE("every proxy has its p95, per layer and in all") {
    Fixture f;
    for (int i = 0; i < 19; ++i) f.add({0, 1}, kFirst);
    for (int i = 0; i < 2; ++i) f.add({0, 2}, kSecond);
    const RoutingQualityResult result = f.quality.result();
    CHECK(result.p95.swap_rate == 0.5);  // element 20 of 21
    CHECK(result.p95.agreement == 1);
    CHECK(result.p95.experts == 2);
    CHECK(near(result.p95.total_variation.value(), 0.375, 1e-7));
    CHECK(near(result.p95.retained_mass_absolute.value(), 0.8, 1e-7));
    CHECK(near(result.p95.logit_regret.value(), std::log(2.0), 1e-7));
    // The range of a visit is ln 10.
    CHECK(near(result.p95.logit_regret_over_mean_range.value(), std::log10(2.0), 1e-7));
    CHECK(near(result.mean.logit_regret_over_mean_range.value(), std::log10(2.0) * 2 / 21, 1e-7));
    CHECK(result.p95_by_layer[0].swap_rate == 0);
    CHECK(result.p95_by_layer[1].swap_rate == 0.5);
    CHECK(result.by_layer[1].swap_rate == 0.5);
    CHECK(!result.p95.bias_divergence.has_value());
  }

  TEST_CASE("adding takes no memory") {
    Fixture f;
    const Selection native = selection({0, 1});
    const Selection swapped = selection({0, 3});
    f.quality.add(kFirst, f.gate, native);
    const std::uint64_t before = allocations();
    for (int i = 0; i < 40; ++i) {
      f.quality.add(kFirst, f.gate, native);
      f.quality.add(kFirst, f.gate, swapped);
    }
    CHECK(allocations() == before);
  }

  TEST_CASE("more visits of a layer than announced are a defect") {
    RoutingQuality quality({0, 1, 4}, 2, 2, 19);
    Fixture f;
    for (int i = 0; i < 20; ++i) quality.add(kFirst, f.gate, selection({0, 1}));
    CHECK_THROWS_AS(static_cast<void>(quality.result()), InvariantError);
  }

  TEST_CASE("a compact visit goes by its recorded weights") {
    Fixture f;
    const std::vector<ExpertId> ids = selection({3, 1}).ids;
    const std::vector<float> weights{0.75F, 0.25F};
    f.gate.set_recorded(ids, weights);
    f.add({3});
    const RoutingQualityResult result = f.quality.result();
    CHECK(result.mean.agreement == 0.5);
    CHECK(result.mean.retained_mass == 0.75);
    CHECK(result.mean.skipped_mass == 0.25);
    CHECK(!result.mean.retained_mass_absolute.has_value());
    CHECK(!result.mean.logit_range.has_value());
    CHECK_THROWS_AS(f.add({0}), InvariantError);
  }

  TEST_CASE("without weights equal sets are exact and unequal ones have counts alone") {
    Fixture f;
    const std::vector<ExpertId> ids = selection({3, 1}).ids;
    f.gate.set_recorded(ids, {});
    f.add({3, 1});
    CHECK(f.quality.result().mean.retained_mass == 1.0);
    CHECK(f.quality.result().p95.gate_l2 == 0.0);
    f.add({3});
    CHECK(f.quality.result().mean.agreement == 0.75);
    CHECK(!f.quality.result().mean.dropped_mass.has_value());
    CHECK(!f.quality.result().p95.gate_l2.has_value());
  }

  TEST_CASE("load violation: the busiest expert of a layer against the mean") {
    Fixture f;
    f.add({0, 1});
    f.add({0, 2});
    f.add({0, 1});
    f.add({0, 3});  // loads 4 2 1 1
    CHECK(f.quality.result().load_violation_by_layer[0] == 1.0);
    CHECK(f.quality.result().load_violation == 1.0);  // nobody visited the other layer
    f.add({0, 1}, kSecond);
    f.add({2, 3}, kSecond);
    CHECK(f.quality.result().load_violation_by_layer[1] == 0.0);
    CHECK(f.quality.result().load_violation == 0.5);
    f.quality.start();
    CHECK(f.quality.result().load_violation == 0.0);
  }

  TEST_CASE("a mean of the bias divergence needs one of every visit") {
    Fixture f;
    f.add({0, 1});
    f.quality.add_bias_divergence(kFirst, 0.5);
    CHECK(f.quality.result().mean.bias_divergence == 0.5);
    f.add({0, 1});
    CHECK(!f.quality.result().mean.bias_divergence.has_value());
  }
}

}  // namespace moesim::test
