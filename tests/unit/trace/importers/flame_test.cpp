#include <algorithm>

#include "unit/trace/importers/recording_files.h"

namespace moesim::test {
namespace {

TEST_SUITE("trace/importers/flame") {
  // Two sequences of one token, layers 2 and 3, eight experts, two of them used.
  const std::string kRecording =
      "# made by hand (8 experts, top-2)\n"
      "seq,pos,layer,slot,expert,prob\n"
      "1,0,2,0,7,0.5\n1,0,2,1,0,0.25\n1,0,3,0,1,0.5\n1,0,3,1,2,0.125\n"
      "0,0,2,0,3,0.5\n0,0,2,1,4,0.25\n0,0,3,0,5,0.5\n0,0,3,1,6,0.125\n";

  std::string error_of(const std::string& from, const std::string& to) {
    return import_error("flame", replaced(kRecording, from, to));
  }

  // Imports the recording with a file of token ids.
  ImportedTrace with_tokens(const std::string& tokens) {
    RecordingFiles files;
    ImportRequest request;
    request.inputs = {files.add("in", kRecording), files.add("tokens", tokens)};
    return import_trace("flame", request);
  }

  TEST_CASE("layers count from 0, tokens go by sequence and position, weights stay as they are") {
    const ImportedTrace imported = import_text("flame", kRecording);
    const TraceData& data = imported.data;
    CHECK(data.shape.tokens == 2);
    CHECK(data.shape.layers == 2);
    CHECK(data.shape.experts == 8);
    CHECK(data.ids == std::vector<std::uint16_t>{3, 4, 5, 6, 7, 0, 1, 2});
    CHECK(data.weights == std::vector<float>{0.5F, 0.25F, 0.5F, 0.125F, 0.5F, 0.25F, 0.5F, 0.125F});
    CHECK(data.sequence == std::vector<std::int32_t>{0, 1});
    CHECK(data.token_ids.empty());
    CHECK(data.metadata.at("layers") == "2,3");
    CHECK(data.metadata.at("gate") == "B");
    CHECK(data.metadata.at("ranked") == "1");
    CHECK(has_note(imported, "the phase is not recorded: all tokens count as decoded"));
    CHECK_FALSE(has_note(imported, "--experts"));
  }

  TEST_CASE("the number of experts is the comment's, else the user's, else a guess") {
    const std::string bare = replaced(kRecording, "(8 experts, top-2)", "");
    const ImportedTrace guessed = import_text("flame", replaced(bare, "1,0,2,0,7,", "1,0,2,0,6,"));
    CHECK(guessed.data.shape.experts == 7);
    CHECK(has_note(guessed, "7 is the largest id + 1"));
    ImportRequest request;
    request.experts = 64;
    CHECK(import_text("flame", bare, request).data.shape.experts == 64);
    CHECK(import_error("flame", kRecording, request) == "in:1 says, got 64");
    CHECK(error_of("(8 experts", "(0 experts") ==
          "in:1: expected a number of experts in [1, 65535], got 0");
  }

  TEST_CASE("token ids cover sequence 0, the rest is -1") {
    const ImportedTrace imported = with_tokens("# ids\npos,token_id\n0,1512\n");
    CHECK(imported.data.token_ids == std::vector<std::int32_t>{1512, -1});
    CHECK(has_note(imported, "1 tokens have token id -1: not recorded"));
    CHECK(contains(user_error_of([] { with_tokens("pos,token_id\n1,5\n"); }),
                   "tokens:2: pos: expected a position of sequence 0, got 1"));
    CHECK(contains(user_error_of([] { with_tokens("pos,token_id\n0,5\n0,6\n"); }),
                   "tokens:3: pos: expected each position once, got 0 again"));
    CHECK(contains(user_error_of([] { with_tokens("pos,id\n0,5\n"); }),
                   "tokens:1: expected the header \"pos,token_id\", got \"pos,id\""));
  }

  TEST_CASE("wrong rows are named with their line") {
    CHECK(error_of("1,0,2,1,0,", "1,0,2,0,0,") ==
          "in:4: slot 0 of this token and layer is given twice, first on line 3");
    CHECK(error_of("1,0,2,0,7,0.5\n", "") ==
          "in:3: expected slot 0 of this token and layer, got slot 1");
    CHECK(error_of("1,0,2,0,7,", "1,0,2,0,8,") == "in:3: expert: expected an id in [0, 7], got 8");
    CHECK(error_of("7,0.5", "7,1.5") == "in:3: prob: expected a number in [0, 1], got \"1.5\"");
    CHECK(error_of("1,0,2,1,0,", "1,0,2,1,7,") ==
          "in:4: expected distinct experts in a token and layer, got expert 7 in slots 0 and 1");
    CHECK(error_of("1,0,2,1,0,", "1,0,2,9,0,") == "in:4: slot: expected a slot in [0, 7], got 9");
    CHECK(import_error("flame", "seq,pos,layer,slot,expert,prob\n") ==
          "in:1: expected rows after the header, got none");
  }

  TEST_CASE("gaps in layers, positions and cells are refused") {
    std::string layers = kRecording;
    for (auto at = layers.find(",0,3,"); at != std::string::npos; at = layers.find(",0,3,")) {
      layers.replace(at, 5, ",0,4,");
    }
    CHECK(contains(import_error("flame", layers),
                   ": expected layers 2 to 4 without a gap, got none for layer 3"));
    const std::string far = kRecording + "0,2,2,0,3,0.5\n";
    CHECK(contains(import_error("flame", far), ": expected position 1 of sequence 0, got none"));
    CHECK(contains(error_of("1,0,3,0,1,0.5\n1,0,3,1,2,0.125\n", ""),
                   ": expected rows of sequence 1, position 0 for layer 3, got none"));
  }

  TEST_CASE("the recorded dump has eight sequences of 256 tokens over eight layers") {
    const std::string folder = "raw_traces/Akash-N-Pai__DynaNDE-Simulator/";
    const auto routes = third_party(folder + "flame_moe_290m_8x256.csv");
    const auto tokens = third_party(folder + "flame_moe_290m_seq0_tokens.csv");
    if (!routes || !tokens) return;
    ImportRequest request;
    request.inputs = {*routes, *tokens};
    const ImportedTrace imported = import_trace("flame", request);
    const TraceData& data = imported.data;
    CHECK(data.shape.tokens == 8 * 256);
    CHECK(data.shape.layers == 8);
    CHECK(data.shape.experts == 64);
    CHECK(data.k == 6);
    CHECK(data.metadata.at("layers") == "2,3,4,5,6,7,8,9");
    for (std::int32_t sequence = 0; sequence < 8; ++sequence) {
      CHECK(std::count(data.sequence.begin(), data.sequence.end(), sequence) == 256);
    }
    CHECK(data.token_ids[0] == 1512);
    CHECK(std::count(data.token_ids.begin(), data.token_ids.end(), -1) == 7 * 256);
    CHECK(data.weights[0] == doctest::Approx(0.0998014));
    CHECK_FALSE(has_note(imported, "do not fall"));
  }
}

}  // namespace
}  // namespace moesim::test
