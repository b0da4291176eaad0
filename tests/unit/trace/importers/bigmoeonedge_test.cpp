#include <algorithm>

#include "unit/trace/importers/recording_files.h"

namespace moesim::test {
namespace {

TEST_SUITE("trace/importers/bigmoeonedge") {
  // Two layers, four experts, two of them used; a prompt of two tokens and one decoded token. Rows
  // stand layer after layer within a batch, as the engine writes them.
  const std::string kRecording =
      "# route_trace v1\n"
      "# model=/data/my models/tiny-Q4.gguf arch=qwen3moe n_layer=2 n_expert=4 n_expert_used=2\n"
      "# layer=0 expert_bytes=1000 dense_bytes=7\n"
      "# layer=1 expert_bytes=3000 dense_bytes=8\n"
      "turn,phase,step,layer,slot,expert,weight,residency,expert_bytes\n"
      "0,0,0,0,0,3,0.75,0,1000\n"
      "0,0,0,0,1,1,0.25,0,1000\n"
      "0,0,1,0,0,2,0.5,0,1000\n"
      "0,0,1,0,1,3,0.5,1,0\n"
      "0,0,1,1,0,0,0.6,0,3000\n"
      "0,0,1,1,1,1,0.4,0,3000\n"
      "0,1,2,0,0,1,0.9,1,0\n"
      "0,1,2,0,1,0,0.1,2,0\n"
      "0,1,2,1,0,2,0.7,0,3000\n"
      "0,1,2,1,1,3,0.3,0,3000\n";

  std::string error_of(const std::string& from, const std::string& to) {
    return import_error("bigmoeonedge", replaced(kRecording, from, to));
  }

  TEST_CASE("a recording becomes a ranked trace with weights, phases and sizes") {
    const ImportedTrace imported = import_text("bigmoeonedge", kRecording);
    const TraceData& data = imported.data;
    constexpr std::uint16_t kNone = TraceData::kAbsentId;
    CHECK(data.shape.tokens == 3);
    CHECK(data.shape.layers == 2);
    CHECK(data.shape.experts == 4);
    CHECK(data.k == 2);
    CHECK(data.ids == std::vector<std::uint16_t>{3, 1, kNone, kNone, 2, 3, 0, 1, 1, 0, 2, 3});
    CHECK(data.weights == std::vector<float>{0.75F, 0.25F, 0.0F, 0.0F, 0.5F, 0.5F, 0.6F, 0.4F, 0.9F,
                                             0.1F, 0.7F, 0.3F});
    CHECK(data.phase == std::vector<std::uint8_t>{0, 0, 1});
    CHECK(data.sequence == std::vector<std::int32_t>{0, 0, 0});
    // From the preamble: the rows print 0 on a hit.
    CHECK(data.expert_bytes == std::vector<std::int64_t>{1000, 3000});
    CHECK(has_note(imported, "1 prompt tokens have no row at the last layer"));
    CHECK(has_note(imported, "residency and bytes read"));
    CHECK(data.logits.empty());
  }

  TEST_CASE("the recording's facts become metadata") {
    const auto metadata = import_text("bigmoeonedge", kRecording).data.metadata;
    CHECK(metadata.at("model") == "tiny-Q4");
    CHECK(metadata.at("gate") == "A");
    CHECK(metadata.at("top_k") == "2");
    CHECK(metadata.at("ranked") == "1");
    CHECK(metadata.at("layers") == "0,1");
    CHECK(metadata.at("recorded_model") == "/data/my models/tiny-Q4.gguf");
    CHECK(metadata.at("recorded_arch") == "qwen3moe");
    CHECK(metadata.at("recorded_n_expert_used") == "2");
    CHECK(metadata.at("recorded_dense_bytes") == "7,8");
  }

  TEST_CASE("turns become sequences and tokens are ordered by turn and step") {
    const std::string second_turn =
        "1,1,3,0,0,0,1,0,1000\n1,1,3,0,1,1,0,0,1000\n1,1,3,1,0,0,1,0,3000\n1,1,3,1,1,1,0,0,3000\n";
    const std::string header = "expert_bytes\n0,0,0,0,0,3";
    const TraceData data =
        import_text("bigmoeonedge",
                    replaced(kRecording, header, "expert_bytes\n" + second_turn + "0,0,0,0,0,3"))
            .data;
    CHECK(data.sequence == std::vector<std::int32_t>{0, 0, 0, 1});
    CHECK(data.phase == std::vector<std::uint8_t>{0, 0, 1, 1});
    CHECK(data.ids[12] == 0);
  }

  TEST_CASE("a layer without experts is not a layer of the trace") {
    std::string text =
        replaced(kRecording, "# layer=0 expert_bytes=1000", "# layer=0 expert_bytes=0");
    text = replaced(text, "# layer=1 ", "# layer=1 expert_bytes=1000 dense_bytes=1\n# layer=2 ");
    for (auto at = text.find("0,0,0,0,0,3"); at < text.size(); at = text.find('\n', at) + 1) {
      text[at + 6] = static_cast<char>(text[at + 6] + 1);  // the column `layer`
    }
    const TraceData data = import_text("bigmoeonedge", text).data;
    CHECK(data.shape.layers == 2);
    CHECK(data.metadata.at("layers") == "1,2");
    CHECK(data.ids[0] == 3);
  }

  TEST_CASE("weights that do not sum to 1 mean gate B, and are noted") {
    const ImportedTrace imported =
        import_text("bigmoeonedge", replaced(kRecording, "0.75", "0.45"));
    CHECK(imported.data.metadata.at("gate") == "B");
    CHECK(has_note(imported, "gate B is assumed"));
  }

  TEST_CASE("weights that rise with the slot are noted") {
    const ImportedTrace imported = import_text(
        "bigmoeonedge", replaced(replaced(kRecording, "3,0.75", "3,0.25"), "1,0.25", "1,0.75"));
    CHECK(has_note(imported, "1 cells have weights that do not fall with the slot"));
    CHECK(imported.data.ids[0] == 3);
  }

  TEST_CASE("a wrong preamble is named with its line") {
    CHECK(error_of("# route_trace v1", "# route_trace v2") ==
          "in:1: expected \"# route_trace v1\", got \"# route_trace v2\"");
    CHECK(contains(import_error("bigmoeonedge", ""), "in:1: expected \"# route_trace v1\""));
    CHECK(error_of("n_expert=4 ", "") ==
          "in:2: expected n_expert=N with N in [1, 65535], got no such key");
    CHECK(error_of("n_expert_used=2", "n_expert_used=5") ==
          "in:2: expected n_expert_used=N with N in [1, 4], got \"5\"");
    CHECK(error_of("expert_bytes=3000", "expert_bytes=x") ==
          "in:4: expected expert_bytes=N with N in [0, 1125899906842624], got \"x\"");
    CHECK(error_of("# layer=1", "# layer=0") == "in:4: expected a layer after 0, got layer=0");
    CHECK(contains(error_of("# model=", "# m="), "in:4: expected a preamble line \"# model=..."));
    CHECK(contains(error_of("# layer=0 expert_bytes=1000 dense_bytes=7\n"
                            "# layer=1 expert_bytes=3000 dense_bytes=8\n",
                            ""),
                   "in:2: expected preamble lines \"# layer=N expert_bytes=B\" with B > 0"));
    CHECK(import_error("bigmoeonedge", kRecording.substr(0, kRecording.find("0,0,0,0,0,3"))) ==
          "in:5: expected rows after the header, got none");
  }

  TEST_CASE("a wrong row is named with its line") {
    CHECK(error_of("0,0,0,0,1,1,0.25", "0,0,0,0,0,1,0.25") ==
          "in:7: slot 0 of this token and layer is given twice, first on line 6");
    CHECK(error_of("0,0,0,0,0,3,0.75,0,1000\n", "") ==
          "in:6: expected slot 0 of this token and layer, got slot 1");
    CHECK(error_of("0,0,0,0,1,1,0.25,0,1000\n", "") ==
          "in:6: expected 2 slots for this token and layer, got 1");
    CHECK(error_of("0,0,0,0,1,1,0.25", "0,0,0,0,1,3,0.25") ==
          "in:7: expected distinct experts in a token and layer, got expert 3 in slots 0 and 1");
    CHECK(error_of("0,0,0,0,0,3,", "0,0,0,0,0,4,") ==
          "in:6: expert: expected an id in [0, 3], got 4");
    CHECK(error_of("0,0,0,0,1,1,", "0,0,0,0,2,1,") ==
          "in:7: slot: expected a slot in [0, 1], got 2");
    CHECK(error_of("0,0,0,0,0,3,0.75", "0,0,0,0,0,3,-0.75") ==
          "in:6: weight: expected a number >= 0, got \"-0.75\"");
    CHECK(error_of("0,0,0,0,0,3", "0,2,0,0,0,3") ==
          "in:6: phase: expected an integer in [0, 1], got \"2\"");
    CHECK(error_of("0.75,0,1000", "0.75,3,1000") ==
          "in:6: residency: expected an integer in [0, 2], got \"3\"");
    CHECK(error_of("0.75,0,1000", "0.75,0,-1") ==
          "in:6: expert_bytes: expected an integer >= 0, got \"-1\"");
    CHECK(error_of("0,0,1,1,0,0,", "0,0,1,7,0,0,") ==
          "in:10: layer: expected a layer of the preamble with expert_bytes > 0, got 7");
    CHECK(error_of("0,0,0,0,1,1,", "0,1,0,0,1,1,") ==
          "in:7: phase: expected 0 as in the other rows of turn 0, step 0, got 1");
  }

  TEST_CASE("only prompt tokens at the last layer may lack rows") {
    const std::string decode = error_of("0,1,2,1,0,2,0.7,0,3000\n0,1,2,1,1,3,0.3,0,3000\n", "");
    CHECK(contains(decode, ": expected rows of turn 0, step 2 for layer 1, got none"));
    const std::string prompt = error_of("0,0,1,0,0,2,0.5,0,1000\n0,0,1,0,1,3,0.5,1,0\n", "");
    CHECK(contains(prompt, ": expected rows of turn 0, step 1 for layer 0, got none"));
  }

  TEST_CASE("--experts and --prefill may not contradict the recording") {
    ImportRequest experts;
    experts.experts = 8;
    RecordingFiles files;
    experts.inputs = {files.add("in", kRecording)};
    const std::string message = user_error_of([&] { import_trace("bigmoeonedge", experts); });
    CHECK(contains(message, "--experts: expected 4 as "));
    CHECK(contains(message, "in:2 says, got 8"));
    ImportRequest prefill;
    prefill.prefill_tokens = 2;
    CHECK(contains(import_error("bigmoeonedge", kRecording, prefill), "--prefill: expected no"));
  }

  struct Phone {
    const char* name;
    const char* model;
    std::size_t prompt;
    std::size_t absent;
  };

  std::size_t ids_of_phase(const TraceData& data, Phase phase) {
    std::size_t count = 0;
    const std::size_t row = data.shape.layers * data.k;
    for (std::size_t i = 0; i < data.ids.size(); ++i) {
      const bool right = data.phase[i / row] == static_cast<std::uint8_t>(phase);
      count += right && data.ids[i] != TraceData::kAbsentId ? 1 : 0;
    }
    return count;
  }

  TEST_CASE("the recorded phone traces have the published shape and the fixture's accesses") {
    const Json fixture = golden("phone_trace_cache.json");
    for (const Phone& phone : {Phone{"qwen", "Qwen3-30B-A3B-Q4_K_M", 28, 27},
                               Phone{"gemma", "google_gemma-4-26B-A4B-it-Q4_K_M", 29, 0},
                               Phone{"gptoss", "gpt-oss-120b-Q4_K_M", 85, 84}}) {
      const auto path =
          third_party(std::string("raw_traces/Helldez__BigMoeOnEdge/") + phone.name + ".route.csv");
      if (!path) return;
      CAPTURE(phone.name);
      const TraceData data = import_trace("bigmoeonedge", request_for(*path)).data;
      const auto expected =
          std::find_if(fixture.at("traces").begin(), fixture.at("traces").end(),
                       [&](const Json& trace) { return trace.at("trace") == phone.name; });
      REQUIRE(expected != fixture.at("traces").end());
      const std::size_t decode = expected->at("decode_tokens").get<std::size_t>();
      CHECK(data.shape.tokens == phone.prompt + decode);
      CHECK(data.shape.layers == expected->at("layers").get<std::size_t>());
      CHECK(data.shape.experts == expected->at("experts").get<std::size_t>());
      CHECK(data.k == expected->at("top_k").get<std::size_t>());
      CHECK(static_cast<std::size_t>(std::count(data.phase.begin(), data.phase.end(), 1)) ==
            decode);
      CHECK(ids_of_phase(data, Phase::kDecode) ==
            expected->at("decode_accesses").get<std::size_t>());
      CHECK(ids_of_phase(data, Phase::kPrefill) ==
            (phone.prompt * data.shape.layers - phone.absent) * data.k);
      std::int64_t cycle = 0;
      for (const std::int64_t bytes : data.expert_bytes) {
        cycle += bytes * static_cast<std::int64_t>(data.k);
      }
      CHECK(cycle == expected->at("token_cycle_bytes").get<std::int64_t>());
      CHECK(wrong_weights(data, 1e-4) == 0);
      CHECK(data.metadata.at("model") == phone.model);
      CHECK(data.metadata.at("gate") == "A");
    }
  }
}

}  // namespace
}  // namespace moesim::test
