// sim model: import a config.json of Hugging Face, show a description.
#include <fmt/format.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "command.h"
#include "config/builtin.h"
#include "core/files.h"
#include "core/units.h"
#include "model/hf_import.h"
#include "model/moe_model.h"

namespace moesim::cli {
namespace {

double billions(std::uint64_t params) { return static_cast<double>(params) * 1e-9; }

double expert_mib(const MoeModel& model, double bits) {
  return static_cast<double>(model.expert_params()) * bits / 8 / static_cast<double>(kMiB);
}

void import_model(const std::string& config, const std::string& out) {
  MoeModel model = import_hf_config(read_json_file(config, config), config);
  model.name = std::filesystem::path(out).stem().string();
  const std::string text = description_text(model);
  write_file_atomically(out, [&](std::ostream& stream) { stream << text; });
  fmt::print(stderr,
             "{}: {} layers, {} of them MoE, {} experts, k = {}, {:.3f} B parameters, "
             "{:.2f} MiB per expert at 16 bit\n",
             model.name, model.num_hidden_layers, model.moe_layers.size(), model.num_experts,
             model.num_experts_per_tok, billions(model.total_params()), expert_mib(model, 16));
}

void print_parts(const MoeModel& model) {
  std::uint64_t mixers = 0;
  for (std::size_t layer = 0; layer < model.num_hidden_layers; ++layer) {
    mixers += model.mixer_params(layer);
  }
  const std::size_t moe = model.moe_layers.size();
  const std::size_t dense = model.num_hidden_layers - moe;
  const std::string head = model.tie_word_embeddings ? "output head (tied)" : "output head";
  const std::vector<std::pair<std::string, std::uint64_t>> parts = {
      {"input embeddings", model.embedding_params()},
      {head, model.tie_word_embeddings ? 0 : model.head_params()},
      {"attention, other mixers, norms", mixers + model.hidden_size},
      {"dense feed-forward layers", dense * model.dense_ffn_params()},
      {"routers", moe * model.router_params()},
      {"shared experts", moe * model.shared_expert_params()},
      {"routed experts", model.routed_params()},
      {"total", model.total_params()},
  };
  fmt::print("\nparameters\n");
  for (const auto& [name, params] : parts) {
    fmt::print("  {:<34}{:>18}{:>9.2f} %\n", name, params,
               100.0 * static_cast<double>(params) / static_cast<double>(model.total_params()));
  }
}

void print_active(const MoeModel& model) {
  fmt::print("\nactive parameters of one token\n");
  fmt::print("  {:<34}{:>18}\n", "all", model.active_params());
  fmt::print("  {:<34}{:>18}\n", "without a separate input table",
             model.active_params_without_input_table());
  fmt::print("  {:<34}{:>18}\n", "without input table and head",
             model.active_params_without_tables());
}

void print_sizes(const MoeModel& model) {
  fmt::print("\none routed expert: {} parameters\n", model.expert_params());
  for (const double bits : {16.0, 8.0, 4.5}) {
    fmt::print("  {:<34}{:>18.2f} MiB\n", fmt::format("at {} bits", bits), expert_mib(model, bits));
  }
  fmt::print("\nkey-value cache of one token\n  {:<34}{:>18} bytes\n", "at 16 bits",
             2 * model.kv_values_per_token());
}

void show_model(const std::string& reference) {
  const MoeModel model = read_model(open_named(reference, "models"));
  fmt::print("{}\n", model.name);
  fmt::print("  {} layers, {} of them MoE, hidden size {}, vocabulary {}\n",
             model.num_hidden_layers, model.moe_layers.size(), model.hidden_size, model.vocab_size);
  fmt::print("  {} experts of {}, {} a token, gate {}\n", model.num_experts,
             model.moe_intermediate_size, model.num_experts_per_tok, to_string(model.gate.code));
  fmt::print("  attention {}\n", to_json(model)["attention"].dump());
  fmt::print("  source: {}\n", model.source);
  print_parts(model);
  print_active(model);
  print_sizes(model);
}

}  // namespace

void add_model_command(CLI::App& app) {
  CLI::App* model = app.add_subcommand("model", "import the shape of a model, or show one");
  model->require_subcommand(1);

  CLI::App* import =
      model->add_subcommand("import", "config.json of Hugging Face to a description");
  const auto config = std::make_shared<std::string>();
  const auto out = std::make_shared<std::string>();
  import->add_option("config", *config, "config.json of the model")->required();
  import->add_option("--out", *out, "the description; its file name names the model")->required();
  import->callback([config, out] { import_model(*config, *out);
});

CLI::App* show = model->add_subcommand("show", "parameters, active parameters, sizes");
const auto reference = std::make_shared<std::string>();
show->add_option("model", *reference, "a description file or a built-in name")->required();
show->callback([reference] { show_model(*reference); });
}  // namespace moesim::cli

}  // namespace moesim::cli
