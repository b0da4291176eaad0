#include "trace/trace_summary.h"

#include "support/testing.h"
#include "support/traces.h"

namespace moesim::test {
namespace {

TEST_SUITE("trace/trace_summary") {
  TEST_CASE("tokens are counted by phase and sequence, absent visits by cell") {
    TraceData data;
    data.shape = {5, 2, 4};
    data.k = 1;
    data.ids = {0, 1, 2, TraceData::kAbsentId, 0, 1, 2, 3, 0, 1};
    data.sequence = {3, 3, 3, 7, 7};
    data.phase = {0, 1, 1, 0, 1};
    const Trace trace = Trace::from_bytes(trace_image(data), "t");
    const TokenCounts counts = count_tokens(trace);
    CHECK(counts.prefill == 2);
    CHECK(counts.decode == 3);
    CHECK(counts.sequences == 2);
    CHECK(counts.shortest == 2);
    CHECK(counts.longest == 3);
    CHECK(counts.absent_visits == 1);
    const Json summary = trace_summary(trace, 0);
    CHECK(summary["schema"] == "moesim.trace_summary/1");
    CHECK(summary["form"] == Json::array({"compact"}));
    CHECK(summary["experts_from"] == "topk_ids");
    CHECK(summary["tokens"]["decode"] == 3);
    CHECK(summary["locality"]["popularity_by_layer"].size() == 2);
  }

  TEST_CASE("a tensor of no known name is shown as ignored") {
    const Trace trace = trace_of({tensor_of<float>("router_logits", DType::kF32, {1, 1, 2}, {0, 1}),
                                  tensor_of<std::uint8_t>("notes", DType::kU8, {1}, {0})});
    const Json summary = trace_summary(trace, 1);
    REQUIRE(summary["tensors"].size() == 2);
    CHECK(summary["tensors"][0]["name"] == "notes");
    CHECK(summary["tensors"][0]["meaning"] == "no part of the format, ignored");
    CHECK(summary["tensors"][1]["meaning"] == "router output before softmax or sigmoid");
    CHECK(summary["form"] == Json::array({"full"}));
    CHECK(summary["k"] == 1);
  }
}

}  // namespace
}  // namespace moesim::test
