#include "trace/sequence_divergence.h"

#include "support/testing.h"
#include "support/traces.h"
#include "trace/trace_summary.h"

namespace moesim::test {
namespace {

// Gate A; sequence 0 with p = (3/4, 1/4) and (1/4, 3/4), sequence 1 with (3/4, 1/4), in one layer.
TraceData two_sequences(const std::string& gate) {
  TraceData data;
  data.shape = {3, 1, 2};
  data.logits_dtype = "F32";
  const float gap = std::log(3.0F);
  data.logits = {gap, 0, 0, gap, gap, 0};
  data.sequence = {0, 0, 1};
  data.metadata = {{"gate", gate}, {"top_k", "1"}};
  return data;
}

double entropy_of_two(double p) { return -p * std::log(p) - (1 - p) * std::log(1 - p); }

TEST_SUITE("trace/sequence_divergence") {
  TEST_CASE("equal, and disjoint distributions") {
    const std::vector<double> left{0.5, 0.5, 0, 0};
    const std::vector<double> right{0, 0, 0.5, 0.5};
    CHECK(routing_divergence(left, left).jensen_shannon == 0);
    CHECK(routing_divergence(left, left).normalised == 0);
    CHECK(routing_divergence(left, right).jensen_shannon == doctest::Approx(std::log(2)));
    CHECK(routing_divergence(left, right).normalised == doctest::Approx(1));
  }

  TEST_CASE("sequences are compared with the first by their mean weights") {
    const Trace trace = Trace::from_bytes(trace_image(two_sequences("A")), "t");
    const auto divergence = sequence_divergence(trace);
    REQUIRE(divergence.has_value());
    CHECK(divergence->sequences == 1);
    // Means (1/2, 1/2) and (3/4, 1/4); the middle is (5/8, 3/8).
    const double entropies = (std::log(2) + entropy_of_two(0.75)) / 2;
    const double expected = entropy_of_two(0.625) - entropies;
    CHECK(divergence->means[0].jensen_shannon == doctest::Approx(expected));
    CHECK(divergence->means[0].normalised == doctest::Approx(expected / entropies));
    const Json summary = trace_summary(trace, 0).at("sequence_divergence");
    CHECK(summary.at("jensen_shannon_by_layer").size() == 1);
  }

  TEST_CASE("recorded weights stand for probabilities, sigmoid gates are normalised") {
    TraceData compact;
    compact.shape = {2, 1, 4};
    compact.k = 2;
    compact.ids = {0, 1, 0, 2};
    compact.weights = {0.6F, 0.2F, 0.6F, 0.2F};
    compact.sequence = {0, 1};
    const Trace trace = Trace::from_bytes(trace_image(compact), "t");
    // A quarter of either moves from one expert to another.
    CHECK(sequence_divergence(trace)->means[0].jensen_shannon ==
          doctest::Approx(0.25 * std::log(2)));
    // Sigmoids 3/4 and 1/2, so (3/5, 2/5).
    const Trace by_sigmoid = Trace::from_bytes(trace_image(two_sequences("D")), "t");
    const double expected = entropy_of_two(0.55) - (std::log(2) + entropy_of_two(0.6)) / 2;
    CHECK(sequence_divergence(by_sigmoid)->means[0].jensen_shannon == doctest::Approx(expected));
  }

  TEST_CASE("one sequence, or ids alone, have none") {
    TraceData data = two_sequences("A");
    data.sequence.clear();
    const Trace one = Trace::from_bytes(trace_image(data), "t");
    CHECK(!sequence_divergence(one).has_value());
    CHECK(trace_summary(one, 0).at("sequence_divergence").is_null());
    TraceData ids;
    ids.shape = {2, 1, 4};
    ids.k = 1;
    ids.ids = {0, 1};
    ids.sequence = {0, 1};
    CHECK(!sequence_divergence(Trace::from_bytes(trace_image(ids), "t")).has_value());
  }
}

}  // namespace
}  // namespace moesim::test
