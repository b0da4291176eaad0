#include "model/moe_model.h"
#include "support/testing.h"

namespace moesim::test {

// A small description, with one key changed ("" removes nothing) by a JSON pointer.
Json small_model() {
  return parse_json(R"({"name": "small", "hidden_size": 64, "num_hidden_layers": 4,
    "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "vocab_size": 100,
    "gate": {"function": "softmax"}, "attention": {"num_attention_heads": 4}})",
                    "m.json");
}

MoeModel read_changed(const std::string& pointer, const Json& value) {
  Json json = small_model();
  json[Json::json_pointer(pointer)] = value;
  return read_model(Section(json, "m.json", ""));
}

std::string message(const std::string& pointer, const Json& value) {
  return user_error_of([&] { read_changed(pointer, value); });
}

std::string message_of_attention(const char* attention) {
  return message("/attention", parse_json(attention, "attention"));
}

TEST_SUITE("model/model_file") {
  TEST_CASE("what is not given has its default") {
    const MoeModel model = read_model(Section(small_model(), "m.json", ""));
    CHECK(model.moe_layers == std::vector<std::size_t>{0, 1, 2, 3});
    CHECK(model.attention.num_key_value_heads == 4);
    CHECK(model.attention.head_dim == 16);
    CHECK(model.gate.code == GateCode::kB);
    CHECK(model.expert_matrices == 3);
    CHECK(!model.tie_word_embeddings);
    CHECK(model.shared_expert_intermediate_size == 0);
    CHECK(model.source.empty());
  }

  TEST_CASE("moe_layers is the count of the last layers or a list") {
    CHECK(read_changed("/moe_layers", 2).moe_layers == std::vector<std::size_t>{2, 3});
    const MoeModel listed = read_changed("/moe_layers", {1, 3});
    CHECK(listed.moe_layers == std::vector<std::size_t>{1, 3});
    CHECK(to_json(listed)["moe_layers"] == Json({1, 3}));
    CHECK(to_json(read_changed("/moe_layers", {2, 3}))["moe_layers"] == 2);
    CHECK(message("/moe_layers", 5) == "m.json: /moe_layers: expected an integer in [1, 4], got 5");
    for (const Json& wrong : {Json({0, 4}), Json({1, 1}), Json({3, 1}), Json::array(), Json({-1}),
                              Json({0.5}), Json({"1"})}) {
      CAPTURE(wrong);
      CHECK(message("/moe_layers", wrong) ==
            "m.json: /moe_layers: expected an increasing list of layers in [0, 3], got " +
                wrong.dump());
    }
  }

  TEST_CASE("the gate's function and keys give its code") {
    const auto code = [](const char* gate) {
      return read_changed("/gate", parse_json(gate, "gate")).gate.code;
    };
    CHECK(code(R"({"function": "softmax", "norm_topk_prob": true})") == GateCode::kA);
    CHECK(code(R"({"function": "softmax", "norm_topk_prob": false})") == GateCode::kB);
    CHECK(code(R"({"function": "sigmoid"})") == GateCode::kE);
    CHECK(code(R"({"function": "sigmoid", "selection_bias": true})") == GateCode::kD);
    CHECK(code(R"({"function": "sigmoid", "routed_scaling_factor": 2.5})") == GateCode::kD);
    CHECK(code(R"({"function": "sigmoid", "norm_topk_prob": false})") == GateCode::kD);
    CHECK(code(R"({"function": "sigmoid", "n_group": 4, "topk_group": 2})") == GateCode::kD);
    CHECK(code(R"({"function": "sparsemixer"})") == GateCode::kF);
  }

  TEST_CASE("gates that contradict the model are refused") {
    CHECK(message("/gate/function", "softmx") ==
          "m.json: /gate/function: unknown value \"softmx\"; known: softmax, sigmoid, sparsemixer, "
          "top1_sigmoid; nearest: softmax");
    CHECK(message("/gate/function", "top1_sigmoid") ==
          "m.json: /gate/function: top1_sigmoid selects num_experts_per_tok = 1, got 2");
    Json three = small_model();
    three["num_experts_per_tok"] = 3;
    three["gate"]["function"] = "sparsemixer";
    CHECK(user_error_of([&] { read_model(Section(three, "m.json", "")); }) ==
          "m.json: /gate/function: sparsemixer selects num_experts_per_tok = 2, got 3");
    CHECK(
        contains(message("/gate/n_group", 2), "m.json: /gate/n_group: unknown key; known here: "));
    CHECK(contains(message("/gate", {{"function", "sparsemixer"}, {"norm_topk_prob", true}}),
                   "m.json: /gate/norm_topk_prob: unknown key"));
    CHECK(message("/gate/routed_scaling_factor", 0) ==
          "m.json: /gate/routed_scaling_factor: expected a number > 0, got 0");
  }

  TEST_CASE("groups must divide the experts and hold enough of them") {
    const auto groups = [](std::size_t n_group, std::size_t topk_group) {
      return message("/gate",
                     {{"function", "sigmoid"}, {"n_group", n_group}, {"topk_group", topk_group}});
    };
    CHECK(groups(2, 3) == "m.json: /gate/topk_group: expected at most n_group = 2, got 3");
    CHECK(groups(3, 1) ==
          "m.json: /gate/n_group: expected equal groups of two or more of num_experts = 8, got 3 "
          "groups");
    CHECK(contains(groups(8, 4), "m.json: /gate/n_group: expected equal groups of two or more"));
    Json json = small_model();
    json["num_experts_per_tok"] = 3;
    json["gate"] = {{"function", "sigmoid"}, {"n_group", 4}, {"topk_group", 1}};
    CHECK(
        user_error_of([&] { read_model(Section(json, "m.json", "")); }) ==
        "m.json: /gate/topk_group: 1 groups of 2 experts hold fewer than num_experts_per_tok = 3");
  }

  TEST_CASE("experts that contradict each other are refused") {
    CHECK(message("/num_experts_per_tok", 9) ==
          "m.json: /num_experts_per_tok: expected at most num_experts = 8, got 9");
    CHECK(message("/num_experts", 0) ==
          "m.json: /num_experts: expected an integer in [1, 4096], got 0");
    CHECK(message("/shared_expert_gate", true) ==
          "m.json: /shared_expert_gate: needs shared_expert_intermediate_size > 0");
    CHECK(message("/expert_matrices", 4) ==
          "m.json: /expert_matrices: expected an integer in [2, 3], got 4");
  }

  TEST_CASE("unknown and missing keys are named") {
    CHECK(contains(message("/hidden_sise", 3), "m.json: /hidden_sise: unknown key; known here: "));
    CHECK(contains(message("/hidden_sise", 3), "; nearest: hidden_size"));
    for (const char* key :
         {"name", "hidden_size", "num_hidden_layers", "num_experts", "num_experts_per_tok",
          "moe_intermediate_size", "vocab_size", "gate", "attention"}) {
      Json json = small_model();
      json.erase(key);
      CHECK(user_error_of([&] { read_model(Section(json, "m.json", "")); }) ==
            std::string("m.json: /") + key + ": missing key");
    }
  }

  TEST_CASE("other_params say where they are from") {
    CHECK(message("/other_params", 5) ==
          "m.json: /other_params: needs source, which says how the number was found");
    Json json = small_model();
    json["other_params"] = 5;
    json["source"] = "counted by hand";
    CHECK(read_model(Section(json, "m.json", "")).other_params == 5);
  }

  TEST_CASE("grouped-query attention checks its heads") {
    CHECK(message("/attention/num_key_value_heads", 3) ==
          "m.json: /attention/num_key_value_heads: expected a divisor of num_attention_heads = 4, "
          "got 3");
    CHECK(message("/attention/num_attention_heads", 5) ==
          "m.json: /attention/head_dim: missing key: hidden_size 64 is no multiple of "
          "num_attention_heads 5");
    CHECK(contains(message("/attention/type", "mha"),
                   "m.json: /attention/type: unknown value \"mha\"; known: gqa, mla, moa; "));
    CHECK(contains(message("/attention/kv_lora_rank", 8),
                   "m.json: /attention/kv_lora_rank: unknown key"));
    CHECK(contains(message("/attention/qk_norm", "half"),
                   "m.json: /attention/qk_norm: unknown value \"half\"; known: none, head, full"));
  }

  TEST_CASE("latent attention needs its ranks") {
    CHECK(message_of_attention(R"({"type": "mla", "num_attention_heads": 4})") ==
          "m.json: /attention/kv_lora_rank: missing key");
    CHECK(contains(message_of_attention(R"({"type": "mla", "num_attention_heads": 4,
        "kv_lora_rank": 8, "qk_nope_head_dim": 4, "qk_rope_head_dim": 2, "v_head_dim": 4,
        "num_key_value_heads": 4})"),
                   "m.json: /attention/num_key_value_heads: unknown key"));
  }

  TEST_CASE("a mixture of attention heads runs equal sets") {
    CHECK(message_of_attention(R"({"type": "moa", "num_attention_heads": 4, "num_experts": 4,
        "num_experts_per_tok": 3})") ==
          "m.json: /attention/num_experts_per_tok: expected a divisor of num_attention_heads = 4, "
          "got 3");
    CHECK(message_of_attention(R"({"type": "moa", "num_attention_heads": 4, "num_experts": 2,
        "num_experts_per_tok": 4})") ==
          "m.json: /attention/num_experts_per_tok: expected an integer in [1, 2], got 4");
  }

  TEST_CASE("windows and layer lists belong together") {
    CHECK(message("/attention/sliding_layers", {0}) ==
          "m.json: /attention/sliding_layers: needs sliding_window");
    CHECK(
        message("/attention/global_head_dim", 32) ==
        "m.json: /attention/sliding_window: missing key: the keys of global layers need a window");
    CHECK(message("/attention/layers", {0, 4}) ==
          "m.json: /attention/layers: expected an increasing list of layers in [0, 3], got [0,4]");
    const MoeModel everywhere = read_changed("/attention/sliding_window", 16);
    CHECK(everywhere.attention_window(3) == 16);
    CHECK(read_changed("/attention/sliding_window", 0).attention_window(3) == 0);
    const MoeModel hybrid = read_changed("/attention/layers", {1});
    CHECK(hybrid.kv_values_per_token(1) == 2 * 4 * 16);
    CHECK(hybrid.kv_values_per_token() == 2 * 4 * 16);
    CHECK(hybrid.mixer_params(0) == 2 * 64);
  }

  TEST_CASE("each optional part of attention adds its parameters") {
    const auto added = [](const char* key, const Json& value) {
      const std::string pointer = std::string("/attention/") + key;
      return read_changed(pointer, value).mixer_params(0) -
             read_model(Section(small_model(), "m.json", "")).mixer_params(0);
    };
    CHECK(read_model(Section(small_model(), "m.json", "")).mixer_params(0) == 4 * 64 * 64 + 2 * 64);
    CHECK(added("qkv_bias", true) == 3 * 64);
    CHECK(added("output_bias", true) == 64);
    CHECK(added("qk_norm", "head") == 2 * 16);
    CHECK(added("qk_norm", "full") == 2 * 64);
    CHECK(added("sinks", true) == 4);
    CHECK(added("output_gate", true) == 64 * 64);
  }

  TEST_CASE("each optional part of experts and router adds its parameters") {
    CHECK(read_changed("/expert_matrices", 2).expert_params() == 2 * 64 * 32);
    CHECK(read_changed("/expert_bias", true).expert_params() == 3 * 64 * 32 + 2 * 32 + 64);
    CHECK(read_changed("/router_bias", true).router_params() == 64 * 8 + 8);
    CHECK(read_changed("/gate/selection_bias", true).router_params() == 64 * 8 + 8);
    Json json = small_model();
    json["shared_expert_intermediate_size"] = 48;
    json["shared_expert_gate"] = true;
    CHECK(read_model(Section(json, "m.json", "")).shared_expert_params() == 3 * 64 * 48 + 64);
  }

  TEST_CASE("a description is text with one line a key") {
    const std::string text = description_text(read_changed("/attention/layers", {0, 2}));
    CHECK(contains(text, "{\n  \"name\": \"small\",\n  \"hidden_size\": 64,\n"));
    CHECK(contains(text, "  \"gate\": {\"function\": \"softmax\", \"norm_topk_prob\": false},\n"));
    CHECK(contains(text, "\"head_dim\": 16, \"layers\": [0, 2]},\n"));
    CHECK(text.ends_with("  \"source\": \"\"\n}\n"));
  }
}

}  // namespace moesim::test
