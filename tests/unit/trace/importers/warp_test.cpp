#include "unit/trace/importers/recording_files.h"

namespace moesim::test {
namespace {

TEST_SUITE("trace/importers/warp") {
  const std::string kRecording =
      "{\"tok\": 5, \"layers\": [[0, 2], [1, 3]]}\n"
      "{\"tok\": 6, \"layers\": [[1, 2], [0, 4]], \"note\": \"ignored\"}\n";

  std::string error_of(const std::string& from, const std::string& to) {
    return import_error("warp", replaced(kRecording, from, to));
  }

  TEST_CASE("sorted ids become an unranked trace without weights") {
    const ImportedTrace imported = import_text("warp", kRecording);
    const TraceData& data = imported.data;
    CHECK(data.shape.tokens == 2);
    CHECK(data.shape.layers == 2);
    CHECK(data.shape.experts == 5);
    CHECK(data.ids == std::vector<std::uint16_t>{0, 2, 1, 3, 1, 2, 0, 4});
    CHECK(data.weights.empty());
    CHECK(data.phase.empty());
    CHECK(data.metadata.at("ranked") == "0");
    CHECK(data.metadata.at("recorded_first_step") == "5");
    CHECK(has_note(imported, "their rank is lost, and there are no weights"));
    CHECK(has_note(imported, "5 is the largest id + 1 (set it with --experts)"));
  }

  TEST_CASE("wrong lines are named") {
    CHECK(import_error("warp", "") == "in:1: expected JSON lines, got none");
    CHECK(error_of("\"tok\": 6", "\"tok\": 7") ==
          "in:2: /tok: expected 6, the step after the line before, got 7");
    CHECK(error_of("\"layers\": [[1, 2], [0, 4]]", "\"layers\": [[1, 2]]") ==
          "in:2: /layers: expected 2 layers as in the first line, got 1");
    CHECK(error_of("[0, 4]", "[0, 4, 5]") == "in:2: expected 2 experts, got 3");
    CHECK(error_of("[[0, 2], [1, 3]]", "[[], [1, 3]]") == "in:1: expected some experts, got 0");
    CHECK(error_of("[0, 4]", "[4, 4]") ==
          "in:2: expected distinct experts in a token and layer, got expert 4 in slots 0 and 1");
    CHECK(error_of("[0, 4]", "[0, 0.5]") ==
          "in:2: /layers/1: expected an array of integers in [0, 65534], got \"[0,0.5]\"");
    CHECK(error_of("[[0, 2], [1, 3]]", "[]") ==
          "in:1: /layers: expected a list of layers, each a list of ids, got \"[]\"");
  }

  TEST_CASE("an id beyond --experts is refused") {
    ImportRequest request;
    request.experts = 4;
    CHECK(import_error("warp", kRecording, request) ==
          "in:2: expert: expected an id in [0, 3], got 4");
  }

  TEST_CASE("the recorded traces have the published shape") {
    const auto olmoe = third_party("raw_traces/sqliteai__warp/trace_olmoe_299.jsonl");
    const auto kimi = third_party("raw_traces/sqliteai__warp/trace_kimi_300.jsonl");
    if (!olmoe || !kimi) return;
    const TraceData first = import_trace("warp", request_for(*olmoe)).data;
    CHECK(first.shape.tokens == 299);
    CHECK(first.shape.layers == 16);
    CHECK(first.shape.experts == 64);
    CHECK(first.k == 8);
    const TraceData second = import_trace("warp", request_for(*kimi)).data;
    CHECK(second.shape.tokens == 300);
    CHECK(second.shape.layers == 26);
    CHECK(second.shape.experts == 256);
    CHECK(second.k == 8);
    CHECK(second.metadata.at("ranked") == "0");
  }
}

}  // namespace
}  // namespace moesim::test
