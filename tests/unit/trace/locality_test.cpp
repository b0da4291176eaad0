#include "trace/locality.h"

#include <cmath>

#include "support/testing.h"
#include "support/traces.h"

namespace moesim::test {
namespace {

// One layer of `experts`, k = 2.
TraceData pairs(const std::vector<std::uint16_t>& ids, std::size_t experts) {
  TraceData data;
  data.shape = {ids.size() / 2, 1, experts};
  data.k = 2;
  data.ids = ids;
  return data;
}

DecodeVisits visits_of(const TraceData& data) {
  return DecodeVisits::of(Trace::from_bytes(trace_image(data), "t"));
}

TEST_SUITE("trace/locality") {
  TEST_CASE("popularity of a layer worked by hand") {
    // Uses: 3, 1, 0, 0 over two experts each of two visits.
    const auto result = popularity(visits_of(pairs({0, 1, 0, 2}, 4)));
    REQUIRE(result.size() == 1);
    // Frequencies 1, 1/2, 1/2, 0 with mean 1/2.
    CHECK(result[0].frequency_sd == doctest::Approx(std::sqrt(0.125)));
    // Ascending 0, 1, 1, 2: (-3*0 - 1*1 + 1*1 + 3*2) / (4 * 4).
    CHECK(result[0].gini == doctest::Approx(6.0 / 16.0));
    CHECK(result[0].unused == 1);
    CHECK(popularity(visits_of(pairs({0, 1, 2, 3}, 4)))[0].gini == 0.0);
  }

  TEST_CASE("overlap looks back within the sequence only") {
    TraceData data = pairs({0, 1, 1, 2, 0, 1}, 4);
    CHECK(overlap(visits_of(data), 1).share == doctest::Approx(0.5));
    CHECK(overlap(visits_of(data), 2).share == doctest::Approx(1.0));
    CHECK_FALSE(overlap(visits_of(data), 3).share);
    data.sequence = {0, 0, 1};
    CHECK(overlap(visits_of(data), 1).share == doctest::Approx(0.5));
    CHECK_FALSE(overlap(visits_of(data), 2).share);
  }

  TEST_CASE("reuse distances count visits of the layer") {
    TraceData data = pairs({0, 1, 1, 2, 0, 1, 0, 3}, 4);
    // First uses: 0, 1, 2, 3. Distances: 1 after 1, 0 after 2, 1 after 1, 0 after 1.
    const auto result = reuse_distances(visits_of(data));
    CHECK(result.accesses == 8);
    CHECK(result.first_uses == 4);
    CHECK(result.p50 == 1);
    CHECK(result.p90 == 2);
    CHECK(result.p99 == 2);
    CHECK(result.max == 2);
    data.sequence = {0, 1, 2, 3};
    CHECK(reuse_distances(visits_of(data)).first_uses == 8);
    CHECK_FALSE(reuse_distances(visits_of(data)).p50);
  }

  TEST_CASE("a hot list is fitted on the first half and judged on the second") {
    // First half: 0 and 1 twice, 2 and 3 never. Second half: 0 twice, 2 and 3 once.
    const DecodeVisits visits = visits_of(pairs({0, 1, 0, 1, 0, 2, 0, 3}, 4));
    CHECK(hot_list(visits, 1).coverage == doctest::Approx(0.5));
    CHECK(hot_list(visits, 2).coverage == doctest::Approx(0.5));
    CHECK(hot_list(visits, 3).coverage == doctest::Approx(0.75));  // tie of 2 and 3: lowest id
    CHECK(hot_list(visits, 100).coverage == doctest::Approx(1.0));
  }

  TEST_CASE("all diagnostics as JSON, what a short trace lacks is null or left out") {
    const Json json = to_json(measure_locality(visits_of(pairs({0, 1, 1, 2, 0, 1, 0, 3}, 4))));
    CHECK(json["popularity_by_layer"].size() == 1);
    CHECK(json["overlap"][0]["lag_tokens"] == 1);
    CHECK(json["overlap"][0]["share"].is_number());
    CHECK(json["overlap"][3]["share"].is_null());
    CHECK(json["reuse_distance_tokens"]["p50"] == 1);
    CHECK(json["hot_list"].size() == 3);
    CHECK(json["srp"].size() == 1);  // m = 4 alone fits
    CHECK(json["sch"][1]["capacity_experts"] == 4);
    CHECK(json["sch"][1]["hit_rate_strict"] == 0.5);
  }

  TEST_CASE("a trace without decode tokens gives no numbers and no error") {
    TraceData data = pairs({0, 1, 1, 2}, 4);
    data.phase = {0, 0};
    const Locality result = measure_locality(visits_of(data));
    CHECK(result.popularity[0].gini == 0.0);
    CHECK_FALSE(result.overlap[0].share);
    CHECK_FALSE(result.hot_lists[0].coverage);
    CHECK(result.segment_routing.empty());
    CHECK(to_json(result)["sch"][0]["hit_rate_strict"].is_null());
  }
}

}  // namespace
}  // namespace moesim::test
