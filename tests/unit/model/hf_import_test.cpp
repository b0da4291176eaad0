#include "model/hf_import.h"

#include "config/builtin.h"
#include "model/hf_families.h"
#include "support/testing.h"

namespace moesim::test {

MoeModel committed(const std::string& name) {
  const auto path = source_dir() / "configs/models" / (name + ".json");
  return read_model(Section(read_json_file(path, path.string()), path.string(), ""));
}

// The description without what an import cannot know: the name and the wording of the source.
Json facts(const MoeModel& model) {
  Json json = to_json(model);
  json.erase("name");
  json.erase("source");
  return json;
}

void check_equal(const MoeModel& imported, const std::string& name) {
  CAPTURE(name);
  const MoeModel expected = committed(name);
  CHECK(facts(imported) == facts(expected));
  CHECK(imported.total_params() == expected.total_params());
  CHECK(imported.active_params() == expected.active_params());
  CHECK(imported.expert_params() == expected.expert_params());
  CHECK(imported.kv_values_per_token() == expected.kv_values_per_token());
  CHECK(imported.gate.code == expected.gate.code);
}

// Checks an inline config, written with its family's own keys, against a built-in model.
void check_import(const char* config, const std::string& name) {
  CAPTURE(name);
  check_equal(import_hf_config(parse_json(config, "inline.json"), "inline.json"), name);
}

const char* const kOlmoe = R"({"model_type": "olmoe", "hidden_size": 2048,
  "intermediate_size": 1024, "num_attention_heads": 16, "num_experts": 64,
  "num_experts_per_tok": 8, "num_hidden_layers": 16, "num_key_value_heads": 16,
  "vocab_size": 50304})";

// The message for the config above with some keys replaced; a null removes a key.
std::string message(const char* changes, const char* config = kOlmoe) {
  Json json = parse_json(config, "config.json");
  json.merge_patch(parse_json(changes, "changes"));
  return user_error_of([&] { import_hf_config(json, "config.json"); });
}

TEST_SUITE("model/hf_import") {
  TEST_CASE("eight published config.json files give the built-in models") {
    for (const char* name : {"deepseek-v2-lite", "deepseek-v3", "gpt-oss-20b", "mixtral-8x7b",
                             "olmoe-1b-7b", "phi-3.5-moe", "qwen1.5-moe-a2.7b", "qwen3-30b-a3b"}) {
      const auto path = third_party(std::string("hf_configs/") + name + ".json");
      if (!path) return;
      const MoeModel model = import_hf_config(read_json_file(*path, name), *path);
      CHECK(model.name == name);
      CHECK(contains(model.source, std::string("imported from ") + name + ".json"));
      check_equal(model, name);
    }
  }

  TEST_CASE("Qwen families: sparse steps, shared expert, text_config, gated DeltaNet") {
    check_import(R"({"model_type": "qwen2_moe", "hidden_size": 3584, "intermediate_size": 18944,
      "moe_intermediate_size": 2560, "shared_expert_intermediate_size": 20480, "num_experts": 64,
      "num_experts_per_tok": 8, "num_attention_heads": 28, "num_key_value_heads": 4,
      "num_hidden_layers": 28, "vocab_size": 151936, "tie_word_embeddings": false})",
                 "qwen2-57b-a14b");
    check_import(R"({"model_type": "qwen3_5_moe", "tie_word_embeddings": false, "text_config": {
      "model_type": "qwen3_5_moe_text", "hidden_size": 2048, "moe_intermediate_size": 512,
      "shared_expert_intermediate_size": 512, "num_experts": 256, "num_experts_per_tok": 8,
      "num_attention_heads": 16, "num_key_value_heads": 2, "head_dim": 256,
      "num_hidden_layers": 40, "full_attention_interval": 4, "vocab_size": 248320,
      "linear_num_key_heads": 16, "linear_num_value_heads": 32, "linear_key_head_dim": 128,
      "linear_value_head_dim": 128, "linear_conv_kernel_dim": 4}})",
                 "qwen3.5-35b-a3b");
    const MoeModel sparse = import_hf_config(
        parse_json(R"({"model_type": "qwen3_moe", "hidden_size": 64, "intermediate_size": 96,
          "moe_intermediate_size": 32, "num_experts": 8, "num_experts_per_tok": 2,
          "num_attention_heads": 4, "num_hidden_layers": 8, "vocab_size": 100,
          "decoder_sparse_step": 2, "mlp_only_layers": [3], "use_sliding_window": true,
          "sliding_window": 16, "max_window_layers": 6, "max_position_embeddings": 64})",
                   "x"),
        "x.json");
    CHECK(sparse.moe_layers == std::vector<std::size_t>{1, 5, 7});
    CHECK(sparse.intermediate_size == 96);
    CHECK(sparse.gate.code == GateCode::kB);
    CHECK(sparse.attention.sliding_layers == std::vector<std::size_t>{6, 7});
  }

  TEST_CASE("DeepSeek families: leading dense layers, shared experts, latent attention") {
    check_import(R"({"model_type": "deepseek", "hidden_size": 2048, "intermediate_size": 10944,
      "moe_intermediate_size": 1408, "n_routed_experts": 64, "n_shared_experts": 2,
      "num_experts_per_tok": 6, "first_k_dense_replace": 1, "moe_layer_freq": 1,
      "scoring_func": "softmax", "norm_topk_prob": false, "num_attention_heads": 16,
      "num_key_value_heads": 16, "num_hidden_layers": 28, "vocab_size": 102400})",
                 "deepseek-moe-16b");
    check_import(R"({"model_type": "deepseek_v3", "hidden_size": 2048, "intermediate_size": 11264,
      "moe_intermediate_size": 1408, "n_routed_experts": 64, "n_shared_experts": 2,
      "num_experts_per_tok": 6, "first_k_dense_replace": 1, "scoring_func": "sigmoid",
      "topk_method": "noaux_tc", "n_group": 1, "topk_group": 1, "routed_scaling_factor": 2.446,
      "num_attention_heads": 16, "kv_lora_rank": 512, "q_lora_rank": null,
      "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
      "num_hidden_layers": 27, "vocab_size": 163840})",
                 "moonlight-16b-a3b");
    check_import(R"({"model_type": "kimi_k2", "hidden_size": 7168, "intermediate_size": 18432,
      "moe_intermediate_size": 2048, "n_routed_experts": 384, "n_shared_experts": 1,
      "num_experts_per_tok": 8, "first_k_dense_replace": 1, "routed_scaling_factor": 2.827,
      "n_group": 1, "topk_group": 1, "num_attention_heads": 64, "kv_lora_rank": 512,
      "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
      "num_hidden_layers": 61, "vocab_size": 163840})",
                 "kimi-k2");
  }

  TEST_CASE("GLM families") {
    check_import(R"({"model_type": "glm4_moe", "hidden_size": 4096, "intermediate_size": 10944,
      "moe_intermediate_size": 1408, "n_routed_experts": 128, "n_shared_experts": 1,
      "num_experts_per_tok": 8, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1,
      "routed_scaling_factor": 1.0, "norm_topk_prob": true, "attention_bias": true,
      "use_qk_norm": false, "head_dim": 128, "num_attention_heads": 96,
      "num_key_value_heads": 8, "num_hidden_layers": 46, "vocab_size": 151552})",
                 "glm-4.5-air");
    check_import(R"({"model_type": "glm4_moe_lite", "hidden_size": 2048,
      "intermediate_size": 10240, "moe_intermediate_size": 1536, "n_routed_experts": 64,
      "n_shared_experts": 1, "num_experts_per_tok": 4, "first_k_dense_replace": 1,
      "routed_scaling_factor": 1.8, "num_attention_heads": 20, "kv_lora_rank": 512,
      "q_lora_rank": 768, "qk_nope_head_dim": 192, "qk_rope_head_dim": 64, "v_head_dim": 256,
      "num_hidden_layers": 47, "vocab_size": 154880})",
                 "glm-4.7-30b-a3b");
  }

  TEST_CASE("families whose experts have intermediate_size") {
    check_import(R"({"model_type": "granitemoe", "hidden_size": 1536, "intermediate_size": 512,
      "num_local_experts": 40, "num_experts_per_tok": 8, "num_attention_heads": 24,
      "num_key_value_heads": 8, "num_hidden_layers": 32, "vocab_size": 49155,
      "tie_word_embeddings": true})",
                 "granite-3.x-3b-a800m");
    check_import(R"({"model_type": "minicpm", "hidden_size": 2304, "intermediate_size": 5760,
      "num_experts": 8, "num_experts_per_tok": 2, "num_attention_heads": 36,
      "num_key_value_heads": 36, "num_hidden_layers": 40, "vocab_size": 122753})",
                 "minicpm-moe-8x2b");
    check_import(R"({"model_type": "llama_moe", "hidden_size": 4096, "intermediate_size": 11008,
      "num_experts": 16, "num_selects": 4, "score_scale_factor": 4.0, "num_attention_heads": 32,
      "num_key_value_heads": 32, "num_hidden_layers": 32, "vocab_size": 32000})",
                 "llama-moe-v1-3.5b");
    check_import(R"({"model_type": "xverse", "hidden_size": 2560, "intermediate_size": 1728,
      "num_experts": 64, "moe_top_k": 6, "num_shared_experts": 2, "num_attention_heads": 32,
      "num_hidden_layers": 28, "vocab_size": 100534})",
                 "xverse-moe-a4.2b");
    check_import(R"({"model_type": "grinmoe", "hidden_size": 4096, "intermediate_size": 6400,
      "num_local_experts": 16, "num_experts_per_tok": 2, "num_attention_heads": 32,
      "num_key_value_heads": 8, "num_hidden_layers": 32, "vocab_size": 32064,
      "attention_bias": true, "lm_head_bias": true, "sliding_window": 2047,
      "max_position_embeddings": 4096})",
                 "grin-moe");
  }

  TEST_CASE("JetMoE: sets of attention heads are as many as the experts") {
    check_import(R"({"model_type": "jetmoe", "hidden_size": 2048, "ffn_hidden_size": 5632,
      "moe_num_experts": 8, "moe_top_k": 2, "kv_channels": 128, "num_key_value_heads": 16,
      "num_hidden_layers": 24, "vocab_size": 32000})",
                 "jetmoe-8b");
  }

  TEST_CASE("Jamba: Mamba mixers are counted from the config") {
    check_import(R"({"model_type": "jamba", "hidden_size": 4096, "intermediate_size": 14336,
      "num_experts": 16, "num_experts_per_tok": 2, "expert_layer_period": 2,
      "expert_layer_offset": 1, "attn_layer_period": 8, "attn_layer_offset": 4,
      "num_attention_heads": 32, "num_key_value_heads": 8, "num_hidden_layers": 32,
      "mamba_d_state": 16, "mamba_d_conv": 4, "mamba_expand": 2, "mamba_dt_rank": 256,
      "mamba_conv_bias": true, "mamba_proj_bias": false, "vocab_size": 65536})",
                 "jamba-v0.1");
  }

  TEST_CASE("LFM2: short convolutions are counted from the config") {
    const char* config = R"({"model_type": "lfm2_moe", "hidden_size": 2048,
      "intermediate_size": 7168, "moe_intermediate_size": 1792, "num_experts": 32,
      "num_experts_per_tok": 4, "num_dense_layers": 2, "use_expert_bias": true,
      "norm_topk_prob": true, "routed_scaling_factor": 1.0, "num_attention_heads": 32,
      "num_key_value_heads": 8, "num_hidden_layers": 24, "conv_L_cache": 3, "conv_bias": false,
      "full_attn_idxs": [2, 6, 10, 14, 18, 21], "vocab_size": 65536})";
    check_import(config, "lfm2-8b-a1b");
    Json by_type = parse_json(config, "inline.json");
    by_type.erase("full_attn_idxs");
    for (std::size_t layer = 0; layer < 24; ++layer) {
      const bool attention = committed("lfm2-8b-a1b").has_attention(layer);
      by_type["layer_types"].push_back(attention ? "full_attention" : "conv");
    }
    check_equal(import_hf_config(by_type, "inline.json"), "lfm2-8b-a1b");
  }

  TEST_CASE("Nemotron-H: the pattern says what each layer is") {
    check_import(R"({"model_type": "nemotron_h", "hidden_size": 2688, "intermediate_size": 1856,
      "moe_intermediate_size": 1856, "moe_shared_expert_intermediate_size": 3712,
      "n_shared_experts": 1, "n_routed_experts": 128, "num_experts_per_tok": 6, "n_group": 1,
      "topk_group": 1, "norm_topk_prob": true, "routed_scaling_factor": 2.5,
      "num_attention_heads": 32, "num_key_value_heads": 2, "head_dim": 128,
      "num_hidden_layers": 52, "vocab_size": 131072, "mamba_num_heads": 64,
      "mamba_head_dim": 64, "n_groups": 8, "ssm_state_size": 128, "conv_kernel": 4,
      "hybrid_override_pattern": "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME"})",
                 "nemotron-3-nano-30b-a3b");
  }

  TEST_CASE("Llama 4, Gemma 4: windows on some layers, text_config") {
    check_import(R"({"model_type": "llama4", "text_config": {"model_type": "llama4_text",
      "hidden_size": 5120, "intermediate_size": 8192, "intermediate_size_mlp": 16384,
      "num_local_experts": 16, "num_experts_per_tok": 1, "interleave_moe_layer_step": 1,
      "num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 128,
      "num_hidden_layers": 48, "attention_chunk_size": 8192, "no_rope_layers": [],
      "max_position_embeddings": 10485760, "use_qk_norm": true, "vocab_size": 202048}})",
                 "llama-4-scout");
    check_import(R"({"model_type": "gemma4", "text_config": {"model_type": "gemma4_text",
      "hidden_size": 2816, "intermediate_size": 2112, "moe_intermediate_size": 704,
      "num_experts": 128, "top_k_experts": 8, "num_attention_heads": 16,
      "num_key_value_heads": 8, "head_dim": 256, "global_head_dim": 512,
      "num_global_key_value_heads": 2, "attention_k_eq_v": true, "sliding_window": 1024,
      "max_position_embeddings": 262144, "num_hidden_layers": 30, "vocab_size": 262144}})",
                 "gemma-4-26b-a4b");
    const MoeModel interleaved = import_hf_config(
        parse_json(R"({"model_type": "llama4_text", "hidden_size": 64, "intermediate_size": 32,
          "intermediate_size_mlp": 96, "num_local_experts": 8, "num_experts_per_tok": 1,
          "interleave_moe_layer_step": 2, "num_attention_heads": 4, "num_hidden_layers": 4,
          "attention_chunk_size": 16, "no_rope_layers": [1, 0, 1, 0], "vocab_size": 100})",
                   "x"),
        "x.json");
    CHECK(interleaved.moe_layers == std::vector<std::size_t>{1, 3});
    CHECK(interleaved.attention.sliding_layers == std::vector<std::size_t>{0, 2});
    CHECK(interleaved.intermediate_size == 96);
  }

  TEST_CASE("SmallThinker, ERNIE: layouts and index ranges") {
    Json thinker = parse_json(R"({"model_type": "smallthinker", "hidden_size": 2560,
      "moe_ffn_hidden_size": 768, "moe_num_primary_experts": 64,
      "moe_num_active_primary_experts": 6, "moe_primary_router_apply_softmax": false,
      "norm_topk_prob": true, "num_attention_heads": 28, "num_key_value_heads": 4,
      "head_dim": 128, "num_hidden_layers": 52, "sliding_window_size": 4096,
      "max_position_embeddings": 16384, "vocab_size": 151936, "tie_word_embeddings": false})",
                              "inline.json");
    for (std::size_t layer = 0; layer < 52; ++layer) {
      thinker["moe_layer_layout"].push_back(1);
      thinker["sliding_window_layout"].push_back(layer % 4 == 0 ? 0 : 1);
    }
    check_equal(import_hf_config(thinker, "inline.json"), "smallthinker-21b-a3b");
    thinker["moe_primary_router_apply_softmax"] = true;
    CHECK(import_hf_config(thinker, "inline.json").gate.code == GateCode::kA);
    check_import(R"({"model_type": "ernie4_5_moe", "hidden_size": 2560,
      "intermediate_size": 12288, "moe_intermediate_size": 1536, "moe_num_experts": 64,
      "moe_k": 6, "moe_num_shared_experts": 2, "moe_layer_start_index": 1,
      "moe_layer_end_index": -1, "moe_layer_interval": 1, "use_bias": false,
      "num_attention_heads": 20, "num_key_value_heads": 4, "num_hidden_layers": 28,
      "vocab_size": 103424, "tie_word_embeddings": true})",
                 "ernie-4.5-21b-a3b");
  }

  TEST_CASE("an unknown model_type lists the known ones and the nearest") {
    CHECK(hf_model_types().size() == 27);
    const std::string text = message(R"({"model_type": "mixtrall"})");
    CHECK(
        contains(text, "config.json: /model_type: unknown value \"mixtrall\"; known: deepseek, "));
    CHECK(contains(text, "; nearest: mixtral"));
    CHECK(message(R"({"model_type": null})") == "config.json: /model_type: missing key");
    CHECK(contains(message(R"({"text_config": {"model_type": "bert"}})"),
                   "config.json: /text_config/model_type: unknown value \"bert\"; known: "));
    CHECK(find_hf_family("llama4_text") == find_hf_family("llama4"));
  }

  TEST_CASE("a key that is needed and missing is named with its alternatives") {
    CHECK(message(R"({"num_experts": null})") ==
          "config.json: missing key: one of num_experts, num_local_experts, n_routed_experts, "
          "moe_num_experts, moe_num_primary_experts is needed for model_type \"olmoe\"");
    CHECK(message(R"({"hidden_size": null})") == "config.json: /hidden_size: missing key");
    CHECK(message(R"({"num_attention_heads": null})") ==
          "config.json: /num_attention_heads: missing key");
    CHECK(contains(message(R"({"num_hidden_layers": 1000000})"),
                   "config.json: /num_hidden_layers: expected an integer in [1, 1024]"));
  }

  TEST_CASE("what contradicts itself is refused as in a description") {
    CHECK(message(R"({"num_experts_per_tok": 65})") ==
          "config.json: /num_experts_per_tok: expected at most num_experts = 64, got 65");
    CHECK(message(R"({"model_type": "qwen3_moe", "mlp_only_layers": [16]})") ==
          "config.json: /mlp_only_layers: expected an increasing list of layers in [0, 15], got "
          "[16]");
    CHECK(message(R"({"model_type": "qwen3_moe", "decoder_sparse_step": 17})") ==
          "config.json: no layer has routed experts");
  }

  TEST_CASE("features that a description cannot express are refused by name") {
    CHECK(message(R"({"model_type": "deepseek", "moe_intermediate_size": 64, "n_group": 8,
                      "topk_group": 3, "topk_method": "group_limited_greedy"})") ==
          "config.json: /n_group: group-limited selection with a softmax is unknown; known: with a "
          "sigmoid");
    CHECK(contains(message(R"({"model_type": "deepseek", "moe_intermediate_size": 64,
                               "scoring_func": "tanh"})"),
                   "config.json: /scoring_func: unknown value \"tanh\"; known: softmax, sigmoid"));
    CHECK(contains(message(R"({"model_type": "deepseek", "moe_intermediate_size": 64,
                               "topk_method": "best"})"),
                   "config.json: /topk_method: unknown value \"best\"; known: greedy, "));
    CHECK(message(R"({"model_type": "deepseek_v2", "moe_intermediate_size": 64,
                      "attention_bias": true, "kv_lora_rank": 8, "qk_nope_head_dim": 8,
                      "qk_rope_head_dim": 8, "v_head_dim": 8})") ==
          "config.json: /attention_bias: biases with multi-head latent attention are unknown");
  }

  TEST_CASE("hybrids say which of their layers or sizes is wrong") {
    const char* nemotron = R"({"model_type": "nemotron_h", "moe_intermediate_size": 64,
      "hybrid_override_pattern": "ME*-", "num_hidden_layers": 4})";
    CHECK(message(nemotron) ==
          "config.json: /hybrid_override_pattern: expected 4 layers, each M (Mamba-2), E (MoE) or "
          "* (attention), got ME*-");
    CHECK(message(R"({"model_type": "nemotron_h", "moe_intermediate_size": 64,
      "hybrid_override_pattern": "ME*E", "num_hidden_layers": 4, "mamba_num_heads": 2,
      "mamba_head_dim": 8, "n_groups": 1, "ssm_state_size": 8, "conv_kernel": 4,
      "mamba_proj_bias": true})") ==
          "config.json: /mamba_proj_bias: biases of Mamba-2 projections are unknown");
    CHECK(message(R"({"model_type": "lfm2_moe", "moe_intermediate_size": 64, "conv_L_cache": 3,
                      "layer_types": ["conv"]})") ==
          "config.json: /layer_types: expected an array with one entry for each of 16 layers");
    CHECK(message(R"({"model_type": "jamba", "expert_layer_period": 2, "expert_layer_offset": 1,
                      "attn_layer_period": 8, "attn_layer_offset": 4})") ==
          "config.json: /mamba_expand: missing key");
  }
}

}  // namespace moesim::test
