#include "trace/token_specialisation.h"

#include "support/testing.h"
#include "support/traces.h"
#include "trace/trace_summary.h"

namespace moesim::test {
namespace {

TEST_SUITE("trace/token_specialisation") {
  TEST_CASE("one of 32 experts, two alike, and all alike") {
    std::vector<std::size_t> uses(32);
    CHECK(specialisation(uses) == 0);
    uses[7] = 500;
    CHECK(specialisation(uses) == doctest::Approx(0.17399).epsilon(1e-4));
    CHECK(specialisation(uses) == doctest::Approx(std::sqrt(1.0 / 32 * (31.0 / 32))));
    uses[9] = 500;
    CHECK(specialisation(uses) == doctest::Approx(0.12103).epsilon(1e-4));
    CHECK(specialisation(std::vector<std::size_t>(32, 3)) == doctest::Approx(0));
  }

  TEST_CASE("frequent ids of decode tokens alone, layer by layer") {
    // Id 5 four times (expert 0 in layer 0; experts 0 and 1 by turns in layer 1), id 6 twice, and a
    // prefill token of id 5 on expert 3.
    TraceData data;
    data.shape = {7, 2, 4};
    data.k = 1;
    data.token_ids = {5, 5, 6, 5, 6, 5, 5};
    data.phase = {0, 1, 1, 1, 1, 1, 1};
    data.ids = {3, 3, 0, 0, 1, 1, 0, 1, 1, 1, 0, 0, 0, 1};
    const Trace trace = Trace::from_bytes(trace_image(data), "t");
    const DecodeVisits visits = DecodeVisits::of(trace);
    const auto frequent = token_specialisation(trace, visits, 3);
    REQUIRE(frequent.has_value());
    CHECK(frequent->ids == 1);
    CHECK(frequent->tokens == 4);
    CHECK(frequent->mean_sigma[0] == doctest::Approx(std::sqrt(3.0) / 4));
    CHECK(frequent->mean_sigma[1] == doctest::Approx(0.25));
    const auto all = token_specialisation(trace, visits, 1);
    CHECK(all->ids == 2);
    CHECK(all->max_sigma[1] == doctest::Approx(std::sqrt(3.0) / 4));  // id 6
    CHECK(all->mean_sigma[1] == doctest::Approx((0.25 + std::sqrt(3.0) / 4) / 2));
    const Json summary = trace_summary(trace, 0).at("token_specialisation");
    CHECK(summary.at("ids") == 0);
    CHECK(summary.at("more_occurrences_than") == 128);
    CHECK(summary.at("mean_sigma_by_layer") == Json({0.0, 0.0}));
  }

  TEST_CASE("a trace without token ids has none") {
    TraceData data;
    data.shape = {1, 1, 4};
    data.k = 1;
    data.ids = {0};
    const Trace trace = Trace::from_bytes(trace_image(data), "t");
    CHECK(!token_specialisation(trace, DecodeVisits::of(trace)).has_value());
    CHECK(trace_summary(trace, 0).at("token_specialisation").is_null());
  }
}

}  // namespace
}  // namespace moesim::test
