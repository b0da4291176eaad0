#include "compression/expert_factors.h"

#include <cmath>

#include "support/routing.h"
#include "support/testing.h"

namespace moesim::test {
namespace {

Trace trace_in_memory(const TraceData& data) {
  return Trace::from_bytes(trace_image(data), "t.safetensors");
}

// Two tokens, one layer, three experts; softmax weights 4:2:1 and 1:2:4 of 7.
TraceData two_tokens() {
  TraceData data;
  data.shape = {2, 1, 3};
  data.logits_dtype = "F32";
  const auto ln2 = static_cast<float>(std::log(2.0));
  data.logits = {2 * ln2, ln2, 0, 0, ln2, 2 * ln2};
  data.metadata = {{"top_k", "2"}, {"gate", "A"}};
  return data;
}

}  // namespace

TEST_SUITE("compression/expert_factors") {
  TEST_CASE("weights are probabilities among all experts, not renormalised over the selected") {
    const ExpertFactors factors =
        measure_factors(trace_in_memory(two_tokens()), gate_of('A'), 2, std::nullopt);
    // Selected: {0, 1} and {2, 1}. Weights: 4/7, 2/7 + 2/7, 4/7; of 12/7.
    CHECK(factors.frequency == std::vector<double>{0.25, 0.5, 0.25});
    REQUIRE(factors.weight.size() == 3);
    for (const double weight : factors.weight) CHECK(weight == doctest::Approx(1.0 / 3));
  }

  TEST_CASE("prompt tokens count, rows beyond max_tokens do not") {
    TraceData data = two_tokens();
    data.phase = {0, 1};
    const ExpertFactors all = measure_factors(trace_in_memory(data), gate_of('A'), 1, std::nullopt);
    CHECK(all.frequency == std::vector<double>{0.5, 0, 0.5});
    const ExpertFactors one = measure_factors(trace_in_memory(data), gate_of('A'), 1, 1);
    CHECK(one.frequency == std::vector<double>{1, 0, 0});
  }

  TEST_CASE("a compact trace gives its recorded weights, or none") {
    TraceData data;
    data.shape = {2, 2, 4};
    data.k = 2;
    constexpr auto kNone = TraceData::kAbsentId;
    // The second token does not visit the second layer, and nobody visits it with two experts.
    data.ids = {3, 0, 1, kNone, 3, 2, kNone, kNone};
    data.weights = {0.75F, 0.25F, 1.0F, 0, 0.5F, 0.5F, 0, 0};
    data.metadata = {{"top_k", "2"}, {"experts", "4"}};
    const ExpertFactors factors =
        measure_factors(trace_in_memory(data), gate_of('A'), 2, std::nullopt);
    CHECK(factors.frequency == std::vector<double>{0.25, 0, 0.25, 0.5, 0, 1, 0, 0});
    CHECK(factors.weight == std::vector<double>{0.125, 0, 0.25, 0.625, 0, 1, 0, 0});
    CHECK(contains(factors.weight_source, "recorded weights"));
    data.weights.clear();
    const ExpertFactors without =
        measure_factors(trace_in_memory(data), gate_of('A'), 2, std::nullopt);
    CHECK(without.weight.empty());
    CHECK(without.frequency == factors.frequency);
  }

  TEST_CASE("a layer that nobody visits has factors 0") {
    TraceData data;
    data.shape = {1, 2, 4};
    data.k = 1;
    data.ids = {2, TraceData::kAbsentId};
    data.metadata = {{"experts", "4"}};
    const ExpertFactors factors =
        measure_factors(trace_in_memory(data), gate_of('A'), 1, std::nullopt);
    CHECK(factors.frequency == std::vector<double>{0, 0, 1, 0, 0, 0, 0, 0});
  }
}

}  // namespace moesim::test
