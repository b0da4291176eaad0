#include <fmt/format.h>

#include "unit/trace/importers/recording_files.h"

namespace moesim::test {
namespace {

TEST_SUITE("trace/importers/speculative_moe") {
  constexpr std::uint16_t kNone = TraceData::kAbsentId;

  // One decision of dataset "code"; `counter` is token_idx or token_pos.
  std::string decision(int problem, int layer, const char* counter, int value, int first,
                       int second) {
    return fmt::format(
        "{{\"dataset\": \"code\", \"problem_id\": {}, \"layer\": {}, \"{}\": {}, "
        "\"experts\": [{}, {}], \"gating_probs\": [0.75, 0.25]}}\n",
        problem, layer, counter, value, first, second);
  }

  // Problem 7 has two tokens, problem 3 one; the recorder dropped a row of problem 7 at layer 1.
  std::string indexed() {
    return decision(7, 0, "token_idx", 0, 1, 2) + decision(7, 0, "token_idx", 1, 3, 4) +
           decision(7, 1, "token_idx", 0, 5, 6) + decision(3, 0, "token_idx", 0, 7, 0) +
           decision(3, 1, "token_idx", 0, 2, 1);
  }

  // A prompt of three positions and two decoded tokens; layer 1 lacks position 1 and a decoded
  // token.
  std::string positioned() {
    return decision(0, 0, "token_pos", 0, 0, 1) + decision(0, 0, "token_pos", 1, 1, 2) +
           decision(0, 0, "token_pos", 2, 2, 3) + decision(0, 0, "token_pos", 0, 3, 4) +
           decision(0, 0, "token_pos", 0, 4, 5) + decision(0, 1, "token_pos", 0, 5, 6) +
           decision(0, 1, "token_pos", 2, 6, 7) + decision(0, 1, "token_pos", 0, 7, 0);
  }

  TEST_CASE("problems become sequences in order of first appearance, dropped rows end a layer") {
    const ImportedTrace imported = import_text("speculative-moe", indexed());
    const TraceData& data = imported.data;
    CHECK(data.shape.tokens == 3);
    CHECK(data.shape.layers == 2);
    CHECK(data.shape.experts == 8);
    CHECK(data.k == 2);
    CHECK(data.ids == std::vector<std::uint16_t>{1, 2, 5, 6, 3, 4, kNone, kNone, 7, 0, 2, 1});
    CHECK(data.weights[0] == 0.75F);
    CHECK(data.weights[1] == 0.25F);
    CHECK(data.sequence == std::vector<std::int32_t>{0, 0, 1});
    CHECK(data.phase.empty());
    CHECK(data.metadata.at("gate") == "A");
    CHECK(data.metadata.at("model") == "Mixtral-8x7B-Instruct-v0.1");
    CHECK(data.metadata.at("recorded_problems") == "code/7,code/3");
    CHECK(
        has_note(imported,
                 "sequence 0 = code/7: 2 decoded tokens, 1 complete in all layers; 1 dropped rows "
                 "stand as absent cells at the end of their layer"));
    CHECK(has_note(imported, "sequence 1 = code/3: 1 decoded tokens, 1 complete in all layers"));
  }

  TEST_CASE("positions tell the prompt from decoded tokens, and gaps stay where they were") {
    const ImportedTrace imported = import_text("speculative-moe", positioned());
    const TraceData& data = imported.data;
    CHECK(data.shape.tokens == 5);
    CHECK(data.phase == std::vector<std::uint8_t>{0, 0, 0, 1, 1});
    CHECK(data.ids == std::vector<std::uint16_t>{0, 1, 5, 6, 1, 2, kNone, kNone, 2,     3,
                                                 6, 7, 3, 4, 7, 0, 4,     5,     kNone, kNone});
    CHECK(has_note(imported, "; 3 prompt tokens, 1 dropped rows are absent in place"));
  }

  TEST_CASE("a layer that lost position 0 of the prompt still starts with it") {
    std::string text = positioned();
    text = replaced(text, decision(0, 1, "token_pos", 0, 5, 6), "");
    const TraceData data = import_text("speculative-moe", text).data;
    CHECK(data.ids[2] == kNone);
    CHECK(data.ids[10] == 6);
    CHECK(data.ids[14] == 7);
  }

  TEST_CASE("several files give one trace") {
    RecordingFiles files;
    ImportRequest request;
    request.inputs = {files.add("a", decision(0, 0, "token_idx", 0, 1, 2)),
                      files.add("b", decision(1, 0, "token_idx", 0, 3, 4))};
    const TraceData data = import_trace("speculative-moe", request).data;
    CHECK(data.ids == std::vector<std::uint16_t>{1, 2, 3, 4});
    CHECK(data.sequence == std::vector<std::int32_t>{0, 1});
  }

  TEST_CASE("wrong rows are named with their line") {
    const auto error = [](const std::string& from, const std::string& to) {
      return import_error("speculative-moe", replaced(indexed(), from, to));
    };
    CHECK(error("\"token_idx\": 1", "\"token_idx\": 2") ==
          "in:2: /token_idx: expected 1, the number of this layer's rows so far, got 2");
    CHECK(error("[5, 6]", "[5, 5]") ==
          "in:3: expected distinct experts in a token and layer, got expert 5 in slots 0 and 1");
    CHECK(error("[5, 6]", "[5, 8]") == "in:3: expert: expected an id in [0, 7], got 8");
    CHECK(error("[5, 6], \"gating_probs\": [0.75, 0.25]", "[5], \"gating_probs\": [1.0]") ==
          "in:3: expected 2 experts, got 1");
    CHECK(error("[0.75, 0.25]", "[0.75]") ==
          "in:1: /gating_probs: expected 2 numbers, one for each of /experts, got 1");
    CHECK(error("[0.75, 0.25]", "[0.75, 0.5]") ==
          "in:1: /gating_probs: expected numbers that sum to 1, got 1.25");
    CHECK(contains(error("[0.75, 0.25]", "[1.75, 0.25]"),
                   "in:1: /gating_probs: expected an array of numbers, each a number in [0, 1]"));
    CHECK(contains(error("\"layer\": 0, ", ""), "in:1: /layer: missing key"));
    CHECK(error("\"problem_id\": 7", "\"problem_id\": [7]") ==
          "in:1: /problem_id: expected an integer or a string, got \"[7]\"");
    CHECK(contains(error("token_idx", "token_pos"), "in:2: /token_pos: missing key"));
  }

  TEST_CASE("positions out of order are named with their line") {
    const auto error = [](const std::string& from, const std::string& to) {
      return import_error("speculative-moe", replaced(positioned(), from, to));
    };
    CHECK(error("\"token_pos\": 2", "\"token_pos\": 1") ==
          "in:3: /token_pos: expected 0 or a position after 1, got 1");
    CHECK(error("\"token_pos\": 0, \"experts\": [4, 5]", "\"token_pos\": 3, \"experts\": [4, 5]") ==
          "in:5: /token_pos: expected 0 once decoding has begun, got 3");
  }

  TEST_CASE("an empty recording and a problem without a layer are refused") {
    CHECK(contains(import_error("speculative-moe", "\n"), ": expected JSON lines, got none"));
    const std::string gap = replaced(indexed(), decision(3, 1, "token_idx", 0, 2, 1), "");
    CHECK(contains(import_error("speculative-moe", gap),
                   ": expected rows of code/3 for layers 0 to 1, got none for layer 1"));
  }

  // Decoded tokens of a sequence, and those with a cell in every layer.
  struct Counts {
    std::size_t all = 0;
    std::size_t complete = 0;
  };

  Counts counts_of(const TraceData& data, std::int32_t sequence) {
    Counts counts;
    for (std::size_t token = 0; token < data.shape.tokens; ++token) {
      if (data.sequence[token] != sequence) continue;
      ++counts.all;
      bool complete = true;
      for (std::size_t layer = 0; layer < data.shape.layers; ++layer) {
        complete = complete && data.ids[(token * data.shape.layers + layer) * data.k] != kNone;
      }
      counts.complete += complete ? 1 : 0;
    }
    return counts;
  }

  TEST_CASE("the recorded problems have the published lengths") {
    const auto code = third_party("raw_traces/Mario928__speculative-moe/humaneval_2_routing.jsonl");
    const auto maths = third_party("raw_traces/Mario928__speculative-moe/gsm8k_2_routing.jsonl");
    if (!code || !maths) return;
    ImportRequest request;
    request.inputs = {*code, *maths};
    const TraceData data = import_trace("speculative-moe", request).data;
    CHECK(data.shape.layers == 32);
    CHECK(data.shape.tokens == 83 + 255 + 168 + 79);
    const std::vector<std::size_t> all = {83, 255, 168, 79};
    const std::vector<std::size_t> complete = {81, 252, 166, 78};
    for (std::size_t i = 0; i < all.size(); ++i) {
      const Counts counts = counts_of(data, static_cast<std::int32_t>(i));
      CHECK(counts.all == all[i]);
      CHECK(counts.complete == complete[i]);
    }
    CHECK(wrong_weights(data, 1e-6) == 0);
  }

  TEST_CASE("the recorded raw variant has 135 prompt positions and 83 decoded tokens") {
    const auto path = third_party("raw_traces/Mario928__speculative-moe/routing_raw.jsonl");
    if (!path) return;
    const TraceData data = import_trace("speculative-moe", request_for(*path)).data;
    CHECK(data.shape.tokens == 135 + 83);
    CHECK(data.shape.layers == 32);
    CHECK(std::count(data.phase.begin(), data.phase.end(), 0) == 135);
    CHECK(data.phase[134] == 0);
    CHECK(data.phase[135] == 1);
    const auto rows = data.ids.size() -
                      static_cast<std::size_t>(std::count(data.ids.begin(), data.ids.end(), kNone));
    CHECK(rows == 2 * 6777);
    // Layer 2 lost position 40 and no other of the prompt.
    CHECK(data.ids[(40 * 32 + 2) * 2] == kNone);
    CHECK(data.ids[(41 * 32 + 2) * 2] != kNone);
  }
}

}  // namespace
}  // namespace moesim::test
