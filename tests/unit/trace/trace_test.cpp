#include "trace/trace.h"

#include <array>
#include <limits>

#include "core/half.h"
#include "support/testing.h"
#include "support/traces.h"

namespace moesim::test {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Two tokens, one layer, three experts.
TensorToWrite logits() {
  return tensor_of<float>("router_logits", DType::kF32, {2, 1, 3}, {0, 1, 2, 3, 4, 5});
}
TensorToWrite ids(const std::vector<std::uint8_t>& values) {
  return tensor_of("topk_ids", DType::kU8, {2, 1, 2}, values);
}

std::string error_of(const std::vector<TensorToWrite>& tensors,
                     const std::map<std::string, std::string>& extra = {}) {
  auto metadata = trace_metadata();
  for (const auto& [key, value] : extra) metadata[key] = value;
  return user_error_of([&] { (void)trace_of(tensors, metadata); });
}

std::string gate_of(const std::map<std::string, std::string>& extra) {
  auto metadata = trace_metadata();
  metadata.insert(extra.begin(), extra.end());
  return trace_of({logits()}, metadata).gate();
}

TEST_SUITE("trace/trace") {
  TEST_CASE("the full form reads each float type, whatever its alignment") {
    const std::vector<float> values = {-1.5F, 0.0F, 3.25F, 65504.0F, 0x1.0p-24F, -8.0F};
    std::vector<std::uint16_t> half;
    std::vector<std::uint16_t> brain;
    for (const float value : values) {
      half.push_back(float_to_half(value));
      brain.push_back(static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16U));
    }
    std::array<float, 3> row{};
    for (const auto& tensor : {tensor_of("router_logits", DType::kF32, {2, 1, 3}, values),
                               tensor_of("router_logits", DType::kF16, {2, 1, 3}, half),
                               tensor_of("router_logits", DType::kBF16, {2, 1, 3}, brain)}) {
      const Trace trace = trace_of({tensor});
      CHECK(trace.shape().tokens == 2);
      CHECK(trace.shape().layers == 1);
      CHECK(trace.shape().experts == 3);
      CHECK(trace.has_logits());
      CHECK_FALSE(trace.has_ids());
      trace.read_logits(0, LayerId{0}, row);
      CHECK(row == std::array{-1.5F, 0.0F, 3.25F});
      trace.read_logits(1, LayerId{0}, row);
      CHECK(row[2] == -8.0F);
      if (tensor.dtype != DType::kBF16) CHECK(row[0] == 65504.0F);
      CHECK(row[1] == 0x1.0p-24F);  // the smallest subnormal half
    }
    const std::string header =
        R"({"__metadata__":{"format":"moesim.trace","version":"1"},)"
        R"("odd":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
        R"("router_logits":{"dtype":"F32","shape":[1,1,3],"data_offsets":[1,13]}})";
    auto image = raw_safetensors(header, 13);
    const float two = 2.0F;
    std::memcpy(image.data() + image.size() - sizeof(two), &two, sizeof(two));
    const Trace trace = Trace::from_bytes(std::move(image), "t");
    trace.read_logits(0, LayerId{0}, row);
    CHECK(row == std::array{0.0F, 0.0F, 2.0F});
  }

  TEST_CASE("the compact form reads each id type, absent ids end a cell") {
    std::array<ExpertId, 2> cell{};
    const auto check = [&cell](const TensorToWrite& tensor) {
      const Trace trace = trace_of({tensor});
      CHECK(trace.has_ids());
      CHECK_FALSE(trace.has_weights());
      CHECK(trace.recorded_k() == 2);
      CHECK(trace.shape().experts == 8);  // the highest id + 1
      CHECK(trace.read_ids(0, LayerId{0}, cell) == 2);
      CHECK(cell == std::array{ExpertId{7}, ExpertId{2}});
      CHECK(trace.read_ids(1, LayerId{0}, cell) == 1);
      CHECK(cell[0] == ExpertId{3});
      CHECK(trace.read_ids(2, LayerId{0}, cell) == 0);
    };
    check(tensor_of<std::uint8_t>("topk_ids", DType::kU8, {3, 1, 2}, {7, 2, 3, 255, 255, 255}));
    check(tensor_of<std::uint16_t>("topk_ids", DType::kU16, {3, 1, 2},
                                   {7, 2, 3, 65535, 65535, 65535}));
    check(tensor_of<std::int32_t>("topk_ids", DType::kI32, {3, 1, 2}, {7, 2, 3, -1, -1, -1}));
  }

  TEST_CASE("weights stand beside their ids") {
    const Trace trace =
        trace_of({ids({1, 0, 0, 2}), tensor_of<float>("topk_weights", DType::kF32, {2, 1, 2},
                                                      {0.75F, 0.25F, 0.5F, 0.125F})});
    std::array<float, 2> weights{};
    trace.read_weights(1, LayerId{0}, weights);
    CHECK(weights == std::array{0.5F, 0.125F});
  }

  TEST_CASE("what is absent has its default") {
    const Trace trace = trace_of({logits()});
    CHECK(trace.phase(1) == Phase::kDecode);
    CHECK(trace.sequence(1) == 0);
    CHECK_FALSE(trace.has_token_ids());
    CHECK_FALSE(trace.expert_bytes(LayerId{0}));
    CHECK(trace.selection_bias(LayerId{0}).empty());
    CHECK_FALSE(trace.has_tensor("next_layer_logits"));
    CHECK(trace.model().empty());
    CHECK(trace.provenance().empty());
    CHECK(trace.gate().empty());
    CHECK_FALSE(trace.top_k());
    CHECK(trace.ranked());
    CHECK(trace.recorded_k() == 0);
    CHECK(trace.shown() == "t.safetensors");
  }

  TEST_CASE("metadata: experts widen the compact form, further keys are kept") {
    auto metadata = trace_metadata();
    metadata.insert({{"experts", "16"}, {"top_k", "2"}, {"ranked", "0"}, {"lab", "x"}});
    const Trace trace = trace_of({ids({1, 0, 0, 2})}, metadata);
    CHECK(trace.shape().experts == 16);
    CHECK(trace.top_k() == 2);
    CHECK_FALSE(trace.ranked());
    CHECK(trace.metadata().at("lab") == "x");
  }

  TEST_CASE("gates are known by code or by the function that older recordings name") {
    CHECK(gate_of({{"gate", "C"}}) == "C");
    CHECK(gate_of({{"gate", "B+sg"}}) == "B");
    CHECK(gate_of({{"gate", "D(8g;4;x2.5)"}}) == "D");
    CHECK(gate_of({{"gate", "softmax"}, {"norm_topk_prob", "true"}}) == "A");
    CHECK(gate_of({{"gate", "softmax"}, {"norm_topk_prob", "false"}}) == "B");
    CHECK(gate_of({{"gate", "softmax"}}) == "B");
    CHECK(gate_of({{"gate", "sigmoid"}}) == "D");
    for (const std::string gate : {"H", "b", "Best"}) {
      CHECK(error_of({logits()}, {{"gate", gate}}) ==
            "t.safetensors: metadata \"gate\": expected a gate code A to G, \"softmax\" or "
            "\"sigmoid\", got \"" +
                gate + "\"");
    }
  }

  TEST_CASE("metadata that say something else") {
    CHECK(user_error_of([] { (void)trace_of({logits()}, {}); }) ==
          "t.safetensors: metadata \"format\": expected \"moesim.trace\", got none");
    CHECK(error_of({logits()}, {{"format", "moesim.weights"}}) ==
          "t.safetensors: metadata \"format\": expected \"moesim.trace\", got \"moesim.weights\"");
    CHECK(error_of({logits()}, {{"version", "2"}}) ==
          "t.safetensors: metadata \"version\": expected \"1\", got \"2\"");
    for (const std::string value :
         {"0", "-1", "2.5", "two", "", " 2", "65536", "99999999999999999999"}) {
      CHECK(error_of({logits()}, {{"top_k", value}}) ==
            "t.safetensors: metadata \"top_k\": expected an integer in [1, 65535], got \"" + value +
                "\"");
    }
    CHECK(error_of({logits()}, {{"top_k", "4"}}) ==
          "t.safetensors: metadata \"top_k\": expected at most the 3 experts, got \"4\"");
    CHECK(error_of({logits()}, {{"experts", "4"}}) ==
          "t.safetensors: metadata \"experts\": expected 3, the width of router_logits, got \"4\"");
    CHECK(error_of({logits()}, {{"ranked", "yes"}}) ==
          "t.safetensors: metadata \"ranked\": expected \"0\" or \"1\", got \"yes\"");
  }

  TEST_CASE("a missing or contradicting tensor") {
    CHECK(error_of({}) ==
          "t.safetensors: expected a tensor router_logits or topk_ids, got neither of them");
    CHECK(error_of(
              {logits(), tensor_of<float>("topk_weights", DType::kF32, {2, 1, 2}, {0, 0, 0, 0})}) ==
          "t.safetensors: tensor \"topk_weights\": expected topk_ids beside it, got none");
    CHECK(error_of({logits(), tensor_of<std::uint8_t>("topk_ids", DType::kU8, {1, 1, 1}, {0})}) ==
          "t.safetensors: tensor \"topk_ids\": expected shape [tokens, layers, k] = [2, 1, 1], got "
          "[1, 1, 1]");
  }

  TEST_CASE("a wrong type") {
    CHECK(error_of({tensor_of<double>("router_logits", DType::kF64, {1, 1, 1}, {0})}) ==
          "t.safetensors: tensor \"router_logits\": expected dtype F16, BF16 or F32, got F64");
    CHECK(error_of({tensor_of<std::int64_t>("topk_ids", DType::kI64, {1, 1, 1}, {0})}) ==
          "t.safetensors: tensor \"topk_ids\": expected dtype U8, U16 or I32, got I64");
    CHECK(error_of({logits(), tensor_of<std::int64_t>("sequence", DType::kI64, {2}, {0, 0})}) ==
          "t.safetensors: tensor \"sequence\": expected dtype I32, got I64");
  }

  TEST_CASE("a wrong shape") {
    CHECK(error_of({tensor_of<float>("router_logits", DType::kF32, {1, 3}, {0, 0, 0})}) ==
          "t.safetensors: tensor \"router_logits\": expected shape [tokens, layers, experts], got "
          "[1, 3]");
    CHECK(error_of({tensor_of<float>("router_logits", DType::kF32, {0, 1, 3}, {})}) ==
          "t.safetensors: tensor \"router_logits\": expected at least one token, got shape "
          "[0, 1, 3]");
    CHECK(
        error_of({tensor_of<float>("router_logits", DType::kF32, {3, 0, 3}, {})}) ==
        "t.safetensors: tensor \"router_logits\": expected shape [tokens, layers, experts] with 1 "
        "to 65535 layers, got [3, 0, 3]");
    CHECK(
        error_of({tensor_of<float>("router_logits", DType::kF32, {1, 1, 65536},
                                   std::vector<float>(65536))}) ==
        "t.safetensors: tensor \"router_logits\": expected shape [tokens, layers, experts] with 1 "
        "to 65535 experts, got [1, 1, 65536]");
    CHECK(error_of({tensor_of<std::uint8_t>("topk_ids", DType::kU8, {1, 1, 0}, {})}) ==
          "t.safetensors: tensor \"topk_ids\": expected shape [tokens, layers, k] with 1 to 65535 "
          "ids per cell, got [1, 1, 0]");
    CHECK(error_of({logits(), tensor_of<std::int32_t>("token_ids", DType::kI32, {3}, {1, 2, 3})}) ==
          "t.safetensors: tensor \"token_ids\": expected shape [tokens] = [2], got [3]");
    CHECK(
        error_of({logits(), tensor_of<float>("selection_bias", DType::kF32, {3, 1}, {1, 2, 3})}) ==
        "t.safetensors: tensor \"selection_bias\": expected shape [layers, experts] = [1, 3], got "
        "[3, 1]");
  }

  TEST_CASE("values that are not finite are named with their place") {
    CHECK(
        error_of(
            {tensor_of<float>("router_logits", DType::kF32, {2, 1, 3}, {0, 1, 2, 3, kNan, 5})}) ==
        "t.safetensors: tensor \"router_logits\": [token 1, layer 0, expert 1]: expected a finite "
        "number, got NaN");
    CHECK(contains(
        error_of({tensor_of<std::uint16_t>("router_logits", DType::kF16, {1, 2, 1}, {0, 0xFC00})}),
        "[token 0, layer 1, expert 0]: expected a finite number, got -infinity"));
    CHECK(contains(
        error_of({tensor_of<std::uint16_t>("router_logits", DType::kBF16, {1, 1, 2}, {0x7F80, 0})}),
        "[token 0, layer 0, expert 0]: expected a finite number, got infinity"));
    CHECK(contains(error_of({ids({1, 0, 0, 2}), tensor_of<float>("topk_weights", DType::kF32,
                                                                 {2, 1, 2}, {0, 0, 0, kInfinity})}),
                   "\"topk_weights\": [token 1, layer 0, slot 1]: expected a finite number"));
    CHECK(contains(
        error_of({logits(), tensor_of<float>("selection_bias", DType::kF32, {1, 3}, {0, 0, kNan})}),
        "\"selection_bias\": [layer 0, expert 2]: expected a finite number"));
  }

  TEST_CASE("a value that is not finite is found at every place of a long tensor") {
    std::vector<std::uint16_t> values(10'000, 0x7BFF);  // the largest finite half
    for (const std::size_t bad : {0U, 4095U, 4096U, 9999U}) {
      CAPTURE(bad);
      values[bad] = 0x7C01;
      CHECK(contains(
          error_of({tensor_of("router_logits", DType::kF16, {values.size(), 1, 1}, values)}),
          "[token " + std::to_string(bad) + ", layer 0, expert 0]"));
      values[bad] = 0x7BFF;
    }
  }

  TEST_CASE("ids out of range, twice in a cell, or after an absent one") {
    CHECK(error_of({ids({1, 0, 0, 3}), logits()}) ==
          "t.safetensors: tensor \"topk_ids\": [token 1, layer 0, slot 1]: expected an id in "
          "[0, 2], got 3");
    CHECK(error_of({ids({1, 0, 2, 2})}) ==
          "t.safetensors: tensor \"topk_ids\": [token 1, layer 0, slot 1]: expected distinct ids, "
          "got 2 twice");
    CHECK(error_of({ids({255, 1, 2, 0})}) ==
          "t.safetensors: tensor \"topk_ids\": [token 0, layer 0, slot 1]: expected absent ids to "
          "come last, got 1 after one");
    CHECK(error_of({ids({255, 255, 255, 255})}) ==
          "t.safetensors: tensor \"topk_ids\": expected at least one id, got only absent ones");
    const auto wide = [](std::int32_t id) {
      return tensor_of<std::int32_t>("topk_ids", DType::kI32, {1, 1, 2}, {0, id});
    };
    CHECK(contains(error_of({wide(-2)}), "slot 1]: expected an id in [0, 0], got -2"));
    CHECK(contains(error_of({wide(70000)}), "slot 1]: expected an id in [0, 65534], got 70000"));
  }

  TEST_CASE("sequence, phase and expert_bytes hold what they may") {
    CHECK(error_of({logits(), tensor_of<std::int32_t>("sequence", DType::kI32, {2}, {4, 3})}) ==
          "t.safetensors: tensor \"sequence\": [token 1]: expected at least 4, got 3");
    CHECK(error_of({logits(), tensor_of<std::uint8_t>("phase", DType::kU8, {2}, {1, 2})}) ==
          "t.safetensors: tensor \"phase\": [token 1]: expected 0 or 1, got 2");
    CHECK(error_of({logits(), tensor_of<std::int64_t>("expert_bytes", DType::kI64, {1}, {0})}) ==
          "t.safetensors: tensor \"expert_bytes\": [layer 0]: expected an integer > 0, got 0");
  }

  TEST_CASE("a file on disk keeps its name in messages") {
    CHECK(user_error_of([] { (void)Trace::open("/nowhere/a", "a.safetensors"); }) ==
          "a.safetensors: expected a file, got nothing: no such file");
  }
}

}  // namespace
}  // namespace moesim::test
