#include "trace/decode_visits.h"

#include "support/testing.h"
#include "support/traces.h"

namespace moesim::test {
namespace {

std::vector<std::uint16_t> listed(VisitIds ids) { return {ids.begin(), ids.end()}; }

// Four tokens, one layer, three ids of eight experts.
TraceData compact() {
  TraceData data;
  data.shape = {4, 1, 8};
  data.k = 3;
  constexpr std::uint16_t kNone = TraceData::kAbsentId;
  data.ids = {1, 2, 3, 4, 5, kNone, kNone, kNone, kNone, 7, 6, 5};
  return data;
}

Trace opened(const TraceData& data) { return Trace::from_bytes(trace_image(data), "t"); }

TEST_SUITE("trace/decode_visits") {
  TEST_CASE("recorded ids, with absent cells closed up in a stream") {
    const auto visits = DecodeVisits::of(opened(compact()));
    CHECK(visits.k() == 3);
    CHECK(visits.from_ids());
    CHECK(visits.sequences() == 1);
    CHECK(listed(visits.visit(1, 0)) == std::vector<std::uint16_t>{4, 5});
    CHECK(visits.visit(2, 0).empty());
    const auto stream = visits.stream(0, 0);
    REQUIRE(stream.size() == 3);
    CHECK(listed(stream[2]) == std::vector<std::uint16_t>{7, 6, 5});
  }

  TEST_CASE("k is the argument, else top_k, else the ids of a cell") {
    TraceData data = compact();
    CHECK(listed(DecodeVisits::of(opened(data), 2).visit(3, 0)) ==
          std::vector<std::uint16_t>{7, 6});
    data.metadata["top_k"] = std::string("1");
    CHECK(DecodeVisits::of(opened(data)).k() == 1);
    data.metadata["top_k"] = std::string("5");  // more ran than was recorded
    CHECK(DecodeVisits::of(opened(data)).k() == 3);
    CHECK(user_error_of([&data] { (void)DecodeVisits::of(opened(data), 4); }) ==
          "t: expected k of at most 3, the recorded ids of a cell, got 4");
  }

  TEST_CASE("the k largest logits where there are no ids, ties to the lower id") {
    TraceData data;
    data.shape = {1, 1, 4};
    data.logits = {1.0F, 3.0F, 2.0F, 3.0F};
    CHECK(user_error_of([&data] { (void)DecodeVisits::of(opened(data)); }) ==
          "t: expected to know how many experts a token uses, got neither metadata \"top_k\" nor "
          "topk_ids: give k");
    data.metadata["top_k"] = std::string("3");
    const auto visits = DecodeVisits::of(opened(data));
    CHECK_FALSE(visits.from_ids());
    CHECK(listed(visits.visit(0, 0)) == std::vector<std::uint16_t>{1, 3, 2});
    CHECK(user_error_of([&data] { (void)DecodeVisits::of(opened(data), 5); }) ==
          "t: expected k of at most 4, the experts of a layer, got 5");
  }

  TEST_CASE("with both forms, ids serve unless their first k need not be the best") {
    TraceData data = compact();
    data.logits.assign(4 * 8, 0.0F);
    CHECK(DecodeVisits::of(opened(data), 2).from_ids());
    CHECK_FALSE(DecodeVisits::of(opened(data), 4).from_ids());
    data.metadata["ranked"] = std::string("0");
    CHECK_FALSE(DecodeVisits::of(opened(data), 2).from_ids());
    CHECK(DecodeVisits::of(opened(data), 3).from_ids());
  }

  TEST_CASE("prefill is left out, and sequences are apart") {
    TraceData data = compact();
    data.phase = {0, 1, 0, 1};
    data.sequence = {0, 0, 1, 1};
    const auto visits = DecodeVisits::of(opened(data));
    CHECK(visits.shape().tokens == 2);
    CHECK(visits.sequences() == 2);
    CHECK(visits.stream(0, 0).size() == 1);
    CHECK(listed(visits.stream(1, 0).front()) == std::vector<std::uint16_t>{7, 6, 5});
    data.phase = {0, 0, 0, 0};
    CHECK(DecodeVisits::of(opened(data)).sequences() == 0);
  }
}

}  // namespace
}  // namespace moesim::test
