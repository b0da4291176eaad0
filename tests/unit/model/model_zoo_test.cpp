// Every built-in model against the published shapes and totals.
#include <algorithm>
#include <cctype>
#include <cmath>
#include <fstream>
#include <map>
#include <sstream>

#include "config/builtin.h"
#include "core/units.h"
#include "model/moe_model.h"
#include "support/testing.h"

namespace moesim::test {

using Row = std::map<std::string, std::string>;

std::vector<std::string> cells(const std::string& line) {
  std::vector<std::string> result;
  std::istringstream stream(line);
  for (std::string cell; std::getline(stream, cell, ',');) result.push_back(cell);
  return result;
}

std::vector<Row> csv(const std::string& name) {
  std::ifstream file(source_dir() / "tests/golden" / name);
  std::string line;
  std::getline(file, line);
  const std::vector<std::string> header = cells(line);
  std::vector<Row> rows;
  while (std::getline(file, line)) {
    const std::vector<std::string> values = cells(line);
    REQUIRE(values.size() == header.size());
    Row row;
    for (std::size_t i = 0; i < header.size(); ++i) row[header[i]] = values[i];
    rows.push_back(row);
  }
  REQUIRE(!rows.empty());
  return rows;
}

// "DeepSeek-V3/R1" -> "deepseek-v3", "Jamba-v0.1 / Jamba-Mini" -> "jamba-v0.1".
std::string file_name(std::string zoo_name) {
  zoo_name = zoo_name.substr(0, zoo_name.find_first_of(" /("));
  std::transform(zoo_name.begin(), zoo_name.end(), zoo_name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return zoo_name;
}

MoeModel builtin_model(const std::string& name) {
  const auto path = source_dir() / "configs/models" / (name + ".json");
  return read_model(Section(read_json_file(path, path.string()), path.string(), ""));
}

double billions(std::uint64_t params) { return static_cast<double>(params) * 1e-9; }

// Equal at the precision that the table prints.
void check_printed(double value, const std::string& printed) {
  CAPTURE(printed);
  const auto point = printed.find('.');
  const auto digits = point == std::string::npos ? 0 : printed.size() - point - 1;
  CHECK(std::abs(value - std::stod(printed)) <=
        0.5001 * std::pow(10.0, -static_cast<double>(digits)));
}

// The zoo's codes; C behaves as A and is written as A.
GateCode zoo_gate(const std::string& text) {
  const GateCode code = parse_gate_code(text).value();
  return code == GateCode::kC ? GateCode::kA : code;
}

TEST_SUITE("model/zoo") {
  TEST_CASE("each row of the zoo has a file and each file a row") {
    std::vector<std::string> expected;
    for (const Row& row : csv("model_zoo.csv")) expected.push_back(file_name(row.at("name")));
    std::sort(expected.begin(), expected.end());
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::directory_iterator(source_dir() / "configs/models")) {
      found.push_back(entry.path().stem().string());
    }
    std::sort(found.begin(), found.end());
    CHECK(found == expected);
  }

  TEST_CASE("shapes are those of the zoo") {
    for (Row& row : csv("model_zoo.csv")) {
      const std::string name = file_name(row.at("name"));
      CAPTURE(name);
      const MoeModel model = builtin_model(name);
      CHECK(model.name == name);
      CHECK(!model.source.empty());
      CHECK(model.hidden_size == std::stoul(row["hidden"]));
      CHECK(model.num_hidden_layers == std::stoul(row["layers"]));
      CHECK(model.moe_layers.size() == std::stoul(row["moe_layers"]));
      CHECK(model.num_experts == std::stoul(row["experts"]));
      CHECK(model.num_experts_per_tok == std::stoul(row["top_k"]));
      CHECK(model.moe_intermediate_size == std::stoul(row["expert_inter"]));
      CHECK(model.shared_expert_intermediate_size == std::stoul(row["shared_inter_total"]));
      CHECK(model.intermediate_size == std::stoul(row["dense_inter"]));
      CHECK(model.vocab_size == std::stoul(row["vocab"]));
      CHECK(model.tie_word_embeddings == (row["tied"] == "1"));
      CHECK(model.gate.code == zoo_gate(row["gate"]));
      CHECK(model.expert_params() == std::stoull(row["expert_params"]));
      check_printed(billions(model.total_params()), row["total_params_B"]);
    }
  }

  TEST_CASE("totals, active counts and expert bytes are those of the reference") {
    for (Row& row : csv("model_zoo_totals.csv")) {
      const std::string name = file_name(row.at("name"));
      CAPTURE(name);
      const MoeModel model = builtin_model(name);
      const auto routed = static_cast<double>(model.routed_params());
      const auto expert = static_cast<double>(model.expert_params());
      const auto per_token =
          expert * static_cast<double>(model.moe_layers.size() * model.num_experts_per_tok);
      check_printed(billions(model.total_params()), row["total_B"]);
      check_printed(billions(model.active_params()), row["active_all_B"]);
      check_printed(billions(model.active_params_without_input_table()),
                    row["active_no_input_embedding_B"]);
      check_printed(billions(model.active_params_without_tables()),
                    row["active_no_embedding_no_head_B"]);
      check_printed(billions(model.routed_params()), row["routed_experts_B"]);
      check_printed(100.0 * routed / static_cast<double>(model.total_params()),
                    row["routed_percent"]);
      CHECK(model.expert_params() == std::stoull(row["params_per_expert"]));
      check_printed(expert * 2 / static_cast<double>(kMiB), row["mib_per_expert_bf16"]);
      check_printed(expert * 4.5 / 8 / static_cast<double>(kMiB), row["mib_per_expert_4.5bit"]);
      check_printed(per_token * 1e-6, row["routed_mparams_per_token"]);
    }
  }

  TEST_CASE("key-value cache: latent, grouped, windowed and hybrid layers") {
    const MoeModel deepseek = builtin_model("deepseek-v3");
    CHECK(deepseek.kv_values_per_token() * 2 == 70272);  // bytes in bf16
    CHECK(deepseek.attention_window(0) == 0);

    const MoeModel gpt_oss = builtin_model("gpt-oss-20b");
    CHECK(gpt_oss.kv_values_per_token(0) == 2 * 8 * 64);
    CHECK(gpt_oss.attention_window(0) == 128);
    CHECK(gpt_oss.attention_window(1) == 0);

    const MoeModel jamba = builtin_model("jamba-v0.1");
    CHECK(jamba.kv_values_per_token(3) == 0);
    CHECK(jamba.kv_values_per_token(4) == 2 * 8 * 128);
    CHECK(jamba.kv_values_per_token() == 4 * 2 * 8 * 128);
    CHECK(jamba.is_moe_layer(1));
    CHECK(!jamba.is_moe_layer(2));

    const MoeModel gemma = builtin_model("gemma-4-26b-a4b");
    CHECK(gemma.kv_values_per_token(0) == 2 * 8 * 256);
    CHECK(gemma.kv_values_per_token(5) == 2 * 2 * 512);
    CHECK(gemma.attention_window(4) == 1024);
    CHECK(gemma.attention_window(5) == 0);
    CHECK(builtin_model("grin-moe").attention_window(31) == 2047);
    CHECK(builtin_model("jetmoe-8b").kv_values_per_token(0) == 2 * 16 * 128);
  }

  TEST_CASE("selection bias, groups and factor of the gates") {
    const GateSpec deepseek = builtin_model("deepseek-v3").gate;
    CHECK(deepseek.n_group == 8);
    CHECK(deepseek.topk_group == 4);
    CHECK(deepseek.routed_scaling_factor == 2.5);
    CHECK(deepseek.selection_bias);
    CHECK(deepseek.norm_topk_prob);
    CHECK(builtin_model("ernie-4.5-21b-a3b").gate.selection_bias);
    CHECK(builtin_model("llama-moe-v1-3.5b").gate.routed_scaling_factor == 4.0);
    CHECK(!builtin_model("smallthinker-4b-a0.6b").gate.selection_bias);
  }

  TEST_CASE("the layers of mixers, feed-forward parts and tables add up to the total") {
    for (const std::string name : {"olmoe-1b-7b", "jamba-v0.1", "phi-3.5-moe", "deepseek-v3"}) {
      CAPTURE(name);
      const MoeModel model = builtin_model(name);
      std::uint64_t sum = model.embedding_params() + model.head_params() + model.hidden_size;
      for (std::size_t layer = 0; layer < model.num_hidden_layers; ++layer) {
        sum += model.mixer_params(layer);
        sum += model.is_moe_layer(layer) ? model.router_params() + model.shared_expert_params() +
                                               model.num_experts * model.expert_params()
                                         : model.dense_ffn_params();
      }
      CHECK(sum == model.total_params());
    }
  }

  TEST_CASE("other_params are shared equally, the remainder by the first layers") {
    MoeModel model = builtin_model("olmoe-1b-7b");
    const std::uint64_t before = model.mixer_params(0);
    model.other_params = 16 * 10 + 3;
    CHECK(model.mixer_params(2) == before + 11);
    CHECK(model.mixer_params(3) == before + 10);
  }

  TEST_CASE("of a mixture of attention heads one token reads only the sets that it runs") {
    const MoeModel model = builtin_model("jetmoe-8b");
    const std::uint64_t set = 2 * 2048 * 16 * 128;
    CHECK(model.mixer_params(0) - model.active_mixer_params(0) == 6 * set);
    const MoeModel dense = builtin_model("olmoe-1b-7b");
    CHECK(dense.mixer_params(0) == dense.active_mixer_params(0));
  }

  TEST_CASE("descriptions survive being written and read again") {
    for (const Row& row : csv("model_zoo.csv")) {
      const std::string name = file_name(row.at("name"));
      CAPTURE(name);
      const MoeModel model = builtin_model(name);
      const std::string text = description_text(model);
      const MoeModel again = read_model(Section(parse_json(text, "again.json"), "again.json", ""));
      CHECK(to_json(again) == to_json(model));
      CHECK(again.total_params() == model.total_params());
      const auto path = source_dir() / "configs/models" / (name + ".json");
      CHECK(read_json_file(path, name) == to_json(model));
    }
  }
}

}  // namespace moesim::test
