#include "trace/importers/importer.h"

#include "unit/trace/importers/recording_files.h"

namespace moesim::test {
namespace {

TEST_SUITE("trace/importers/importer") {
  const std::string kTwoSteps =
      "{\"tok\": 0, \"layers\": [[0, 2], [1, 3]]}\n{\"tok\": 1, \"layers\": [[1, 2], [0, 3]]}\n";

  TEST_CASE("the formats are those of the contract, by name") {
    std::vector<std::string> names;
    for (const Importer& importer : importers()) names.push_back(importer.name);
    CHECK(names == std::vector<std::string>{"bigmoeonedge", "flame", "npy", "speculative-moe",
                                            "vllm-log", "warp"});
  }

  TEST_CASE("an unknown format lists the known ones and the nearest") {
    const std::string message = import_error("wrap", kTwoSteps);
    CHECK(contains(message, "--format: "));
    CHECK(contains(message, "speculative-moe"));
    CHECK(contains(message, "nearest: warp"));
  }

  TEST_CASE("the number of inputs is checked") {
    CHECK(user_error_of([] { import_trace("warp", {}); }) == "warp: expected 1 input, got 0");
    ImportRequest three;
    three.inputs = {"a", "b", "c"};
    CHECK(user_error_of([&] { import_trace("flame", three); }) ==
          "flame: expected 1 to 2 inputs, got 3");
  }

  TEST_CASE("a missing file is named") {
    CHECK(user_error_of([] { import_trace("warp", request_for("no/such.jsonl")); }) ==
          "no/such.jsonl: expected a file, got nothing: no such file");
  }

  TEST_CASE("what the user adds becomes metadata") {
    ImportRequest request;
    request.experts = 8;
    request.top_k = 1;
    request.model = "tiny";
    request.gate = std::string("B");
    const ImportedTrace imported = import_text("warp", kTwoSteps, request);
    CHECK(imported.data.shape.experts == 8);
    CHECK(imported.data.metadata.at("top_k") == "1");
    CHECK(imported.data.metadata.at("model") == "tiny");
    CHECK(imported.data.metadata.at("gate") == "B");
    CHECK_FALSE(has_note(imported, "--model"));
    CHECK_FALSE(has_note(imported, "--gate"));
    CHECK_FALSE(has_note(imported, "--experts"));
  }

  TEST_CASE("what nobody said is noted") {
    const ImportedTrace imported = import_text("warp", kTwoSteps);
    CHECK(imported.data.metadata.at("top_k") == "2");
    CHECK_FALSE(imported.data.metadata.contains("model"));
    CHECK_FALSE(imported.data.metadata.contains("gate"));
    CHECK(has_note(imported, "the model is not recorded (name it with --model)"));
    CHECK(has_note(imported, "the gate is not recorded (name it with --gate)"));
  }

  TEST_CASE("the provenance names the format, the file and its checksum, not its folder") {
    const ImportedTrace imported = import_text("warp", kTwoSteps);
    const std::string& provenance = imported.data.metadata.at("provenance");
    CHECK(contains(provenance, "imported as warp from in (sha256 "));
    CHECK_FALSE(contains(provenance, "/"));
  }

  TEST_CASE("additions out of range are refused") {
    ImportRequest experts;
    experts.experts = 0;
    CHECK(import_error("warp", kTwoSteps, experts) ==
          "--experts: expected an integer in [1, 65535], got 0");
    ImportRequest top_k;
    top_k.top_k = 3;
    CHECK(import_error("warp", kTwoSteps, top_k) ==
          "--top-k: expected an integer in [1, 2] (the ids that a cell of the recording holds), "
          "got 3");
    for (const std::string gate : {"H", "AB", "a"}) {
      ImportRequest request;
      request.gate = gate;
      CHECK(import_error("warp", kTwoSteps, request) ==
            "--gate: expected one letter from A to G, got \"" + request.gate + "\"");
    }
  }

  TEST_CASE("--prefill marks the first tokens of every sequence as prompt") {
    ImportRequest request;
    request.prefill_tokens = 1;
    CHECK(import_text("warp", kTwoSteps, request).data.phase == std::vector<std::uint8_t>{0, 1});
    const std::string two_sequences =
        "seq,pos,layer,slot,expert,prob\n0,0,0,0,1,0.5\n0,1,0,0,1,0.5\n4,0,0,0,1,0.5\n"
        "4,1,0,0,1,0.5\n4,2,0,0,1,0.5\n";
    CHECK(import_text("flame", two_sequences, request).data.phase ==
          std::vector<std::uint8_t>{0, 1, 0, 1, 1});
  }
}

}  // namespace
}  // namespace moesim::test
