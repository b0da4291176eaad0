#include "unit/trace/importers/recording_files.h"

namespace moesim::test {
namespace {

TEST_SUITE("trace/importers/vllm_log") {
  const std::string kMeta =
      "{\"type\": \"meta\", \"model_id\": \"org/tiny\", \"vllm_version\": \"0.6\", "
      "\"torch_version\": \"2.5\", \"device\": \"T4\", \"seed\": 1, \"layers_logged\": [0, 4], "
      "\"top_k\": 2, \"num_experts\": 8}\n";

  std::string route(const std::string& request, int index, int layer, const std::string& ids,
                    const std::string& weights) {
    return "{\"type\": \"route\", \"req_id\": \"" + request +
           "\", \"token_idx\": " + std::to_string(index) + ", \"layer\": " + std::to_string(layer) +
           ", \"topk_ids\": [" + ids + "], \"topk_weights\": [" + weights + "]}\n";
  }

  // Two forward calls of one row; token_idx restarts.
  std::string recording() {
    return kMeta + route("r0", 0, 0, "3, 1", "0.75, 0.25") + route("r0", 0, 4, "2, 0", "0.5, 0.5") +
           route("r0", 0, 0, "7, 6", "0.995, 0.01") + route("r0", 0, 4, "5, 4", "0.5, 0.5");
  }

  std::string error_of(const std::string& from, const std::string& to) {
    return import_error("vllm-log", replaced(recording(), from, to));
  }

  TEST_CASE("rows become tokens in record order within their layer") {
    const ImportedTrace imported = import_text("vllm-log", recording());
    const TraceData& data = imported.data;
    CHECK(data.shape.tokens == 2);
    CHECK(data.shape.layers == 2);
    CHECK(data.shape.experts == 8);
    CHECK(data.ids == std::vector<std::uint16_t>{3, 1, 2, 0, 7, 6, 5, 4});
    CHECK(data.weights == std::vector<float>{0.75F, 0.25F, 0.5F, 0.5F, 0.995F, 0.01F, 0.5F, 0.5F});
    CHECK(data.sequence.empty());
    CHECK(data.phase.empty());
    CHECK(data.metadata.at("model") == "org/tiny");
    CHECK(data.metadata.at("layers") == "0,4");
    CHECK(data.metadata.at("recorded_vllm_version") == "0.6");
    CHECK(data.metadata.at("recorded_device") == "T4");
    CHECK(data.metadata.at("gate") == "A");
    CHECK(has_note(imported, "gate A is assumed"));
    CHECK(has_note(imported, "token_idx restarts 1 times"));
    CHECK(has_note(imported, "rows of a batch are interleaved"));
    CHECK(has_note(imported, "all rows count as decoded"));
  }

  TEST_CASE("weights that do not sum to 1 mean gate B unless the user says otherwise") {
    const std::string text = replaced(recording(), "0.995", "0.2");
    const ImportedTrace imported = import_text("vllm-log", text);
    CHECK(imported.data.metadata.at("gate") == "B");
    CHECK(has_note(imported, "gate B is assumed"));
    ImportRequest request;
    request.gate = std::string("D");
    const ImportedTrace told = import_text("vllm-log", text, request);
    CHECK(told.data.metadata.at("gate") == "D");
    CHECK_FALSE(has_note(told, "is assumed"));
  }

  TEST_CASE("requests become sequences unless their rows are mixed") {
    const auto rows = [](const char* a, const char* b, const char* c) {
      std::string text = replaced(kMeta, "[0, 4]", "[0]");
      for (const char* request : {a, b, c}) text += route(request, 0, 0, "0, 1", "0.5, 0.5");
      return text;
    };
    CHECK(import_text("vllm-log", rows("a", "a", "b")).data.sequence ==
          std::vector<std::int32_t>{0, 0, 1});
    const ImportedTrace mixed = import_text("vllm-log", rows("a", "b", "a"));
    CHECK(mixed.data.sequence.empty());
    CHECK(has_note(mixed, "rows of several requests are mixed"));
  }

  TEST_CASE("the number of experts may be absent") {
    const std::string text = replaced(recording(), ", \"num_experts\": 8", "");
    const ImportedTrace imported = import_text("vllm-log", text);
    CHECK(imported.data.shape.experts == 8);
    CHECK(has_note(imported, "8 is the largest id + 1"));
    ImportRequest request;
    request.experts = 60;
    CHECK(import_text("vllm-log", text, request).data.shape.experts == 60);
    CHECK(import_error("vllm-log", recording(), request) == "in:1 says, got 60");
  }

  TEST_CASE("a wrong meta line is named") {
    CHECK(import_error("vllm-log", "") ==
          "in:1: expected a line of type meta, got the end of the file");
    CHECK(error_of("\"meta\"", "\"route\"") ==
          "in:1: /type: expected meta on the first line, got \"route\"");
    CHECK(error_of("[0, 4]", "[4, 0]") ==
          "in:1: /layers_logged: expected rising layers, got 0 after 4");
    CHECK(error_of("[0, 4]", "[]") ==
          "in:1: /layers_logged: expected at least one layer, got none");
    CHECK(error_of("\"top_k\": 2", "\"top_k\": 0") ==
          "in:1: /top_k: expected an integer in [1, 65535], got 0");
  }

  TEST_CASE("wrong rows are named with their line") {
    CHECK(error_of("\"route\"", "\"meta\"") == "in:2: /type: expected route, got \"meta\"");
    CHECK(error_of("\"layer\": 4", "\"layer\": 3") ==
          "in:3: /layer: expected one of layers_logged (0,4), got 3");
    CHECK(error_of("[3, 1]", "[3, 3]") ==
          "in:2: expected distinct experts in a token and layer, got expert 3 in slots 0 and 1");
    CHECK(error_of("[3, 1]", "[3, 8]") == "in:2: expert: expected an id in [0, 7], got 8");
    CHECK(error_of("[3, 1]", "[3]") ==
          "in:2: /topk_weights: expected 1 numbers, one for each of /topk_ids, got 2");
    CHECK(error_of("[3, 1], \"topk_weights\": [0.75, 0.25]", "[3], \"topk_weights\": [1]") ==
          "in:2: expected 2 experts, got 1");
    CHECK(contains(error_of("0.75", "-0.75"),
                   "in:2: /topk_weights: expected an array of numbers, each a number >= 0"));
    CHECK(error_of("\"req_id\": \"r0\", \"token_idx\": 0, \"layer\": 4",
                   "\"req_id\": \"r0\", \"token_idx\": 9, \"layer\": 4") ==
          "in:3: /token_idx: expected row 0 of every layer to be of the same token (r0, 0), got "
          "(r0, 9)");
  }

  TEST_CASE("layers with different numbers of rows are refused") {
    const std::string text = replaced(recording(), route("r0", 0, 4, "5, 4", "0.5, 0.5"), "");
    CHECK(contains(import_error("vllm-log", text),
                   ": expected as many rows for layer 4 as for the "
                   "longest layer (2, at least 1), got 1"));
    CHECK(contains(import_error("vllm-log", kMeta), "(0, at least 1), got 0"));
  }

  TEST_CASE("the recorded logs have the published rows, experts and gates") {
    const auto olmoe =
        third_party("raw_traces/KaxitPandya__cerebras-assesment2/moe_routes.trimmed.jsonl");
    const auto qwen =
        third_party("raw_traces/KennethWang1221__vllm-expert-profiler/moe_routes.trimmed.jsonl");
    if (!olmoe || !qwen) return;
    const TraceData first = import_trace("vllm-log", request_for(*olmoe)).data;
    CHECK(first.shape.tokens == 4471);
    CHECK(first.shape.layers == 1);
    CHECK(first.shape.experts == 64);
    CHECK(first.k == 8);
    CHECK(first.metadata.at("gate") == "A");
    CHECK(wrong_weights(first, 1e-3) == 0);
    const ImportedTrace second = import_trace("vllm-log", request_for(*qwen));
    CHECK(second.data.shape.tokens == 4384);
    CHECK(second.data.shape.layers == 1);
    CHECK(second.data.shape.experts == 60);
    CHECK(second.data.k == 4);
    CHECK(second.data.metadata.at("gate") == "B");
    CHECK(has_note(second, "token_idx restarts 128 times"));  // 129 forward calls
  }
}

}  // namespace
}  // namespace moesim::test
