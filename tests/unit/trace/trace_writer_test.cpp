#include "trace/trace_writer.h"

#include <limits>

#include "support/testing.h"
#include "support/traces.h"
#include "trace/safetensors_file.h"

namespace moesim::test {
namespace {

TraceData compact(std::size_t experts) {
  TraceData data;
  data.shape = {1, 1, experts};
  data.k = 2;
  data.ids = {static_cast<std::uint16_t>(experts - 1), TraceData::kAbsentId};
  return data;
}

TraceData full(std::vector<float> logits) {
  TraceData data;
  data.shape = {1, 1, logits.size()};
  data.logits = std::move(logits);
  return data;
}

TEST_SUITE("trace/trace_writer") {
  TEST_CASE("ids are bytes while 255 can mark an absent one") {
    for (const std::size_t experts : {std::size_t{255}, std::size_t{256}}) {
      CAPTURE(experts);
      const Trace trace = Trace::from_bytes(trace_image(compact(experts)), "t");
      CHECK(trace.file().find("topk_ids")->dtype == (experts < 256 ? DType::kU8 : DType::kU16));
      CHECK(trace.shape().experts == experts);
      std::vector<ExpertId> cell(2);
      CHECK(trace.read_ids(0, LayerId{0}, cell) == 1);
      CHECK(index(cell[0]) == experts - 1);
    }
  }

  TEST_CASE("a logit that its stored type cannot hold is an error, not an infinity") {
    CHECK(
        user_error_of([] {
          (void)trace_image(full({0.0F, 70000.0F}));
        }) ==
        "trace to write: tensor \"router_logits\" [token 0, layer 0, expert 1]: expected a number "
        "that is finite as F16, got 70000");
    TraceData data = full({0.0F, 70000.0F});
    data.logits_dtype = "F32";
    CHECK_NOTHROW((void)trace_image(data));
    data.logits[0] = std::numeric_limits<float>::quiet_NaN();
    CHECK(contains(user_error_of([&data] { (void)trace_image(data); }), "finite as F32, got nan"));
  }

  TEST_CASE("bfloat16 rounds to nearest even") {
    TraceData data = full({1.0F + 0x1.0p-8F, 1.0F + 0x1.8p-7F, 1.0F + 0x1.2p-8F});
    data.logits_dtype = "BF16";
    const Trace trace = Trace::from_bytes(trace_image(data), "t");
    std::vector<float> row(3);
    trace.read_logits(0, LayerId{0}, row);
    CHECK(row == std::vector{1.0F, 1.0F + 0x1.0p-6F, 1.0F + 0x1.0p-7F});
  }

  TEST_CASE("data that contradict their shape are a defect of the program") {
    TraceData data = full({1.0F, 2.0F});
    data.shape.layers = 2;
    CHECK_THROWS_AS((void)trace_image(data), InvariantError);
    data = full({1.0F});
    data.logits_dtype = "F8";
    CHECK_THROWS_AS((void)trace_image(data), InvariantError);
    data = compact(4);
    data.ids[0] = 4;
    CHECK_THROWS_AS((void)trace_image(data), InvariantError);
  }

  TEST_CASE("a written file opens, a path that cannot be written is an error") {
    const TemporaryFolder folder;
    const auto path = folder.path() / "a.safetensors";
    write_trace(full({1.0F, 2.0F}), path);
    CHECK(Trace::open(path, "a").shape().experts == 2);
    CHECK(contains(user_error_of([&] { write_trace(full({1.0F}), folder.path() / "no" / "a"); }),
                   "cannot be written"));
  }
}

}  // namespace
}  // namespace moesim::test
