// `sim list`: what can be named in a configuration.
#include <fmt/format.h>

#include <iostream>
#include <memory>

#include "cache/eviction/eviction_policy.h"
#include "command.h"
#include "config/builtin.h"
#include "hardware/device.h"
#include "model/moe_model.h"
#include "prefetch/prefetcher.h"
#include "routing/routing_policy.h"

namespace moesim::cli {
namespace {

struct Listed {
  std::string name;
  std::string description;
  std::vector<Parameter> parameters;
};

template <class Interface>
std::vector<Listed> policies() {
  std::vector<Listed> result;
  for (const auto& [name, entry] : Registry<Interface>::instance().all()) {
    result.push_back({name, entry.about.description, entry.parameters});
  }
  return result;
}

std::vector<Listed> models() {
  std::vector<Listed> result;
  for (const std::string& name : builtin_names("models")) {
    const MoeModel model = read_model(open_named(name, "models"));
    result.push_back(
        {name,
         fmt::format("{:.1f} B parameters, {} MoE layers x {} experts, k = {}, {:.1f} MiB "
                     "an expert at 16 bits",
                     static_cast<double>(model.total_params()) * 1e-9, model.moe_layers.size(),
                     model.num_experts, model.num_experts_per_tok,
                     to_mib(2 * model.expert_params())),
         {}});
  }
  return result;
}

std::vector<Listed> devices() {
  std::vector<Listed> result;
  for (const std::string& name : builtin_names("devices")) {
    const Device device = read_device(open_named(name, "devices"));
    std::string tags;
    for (const auto& [tag, count] : device.count_tags()) {
      if (count > 0) tags += fmt::format("{}{} {}", tags.empty() ? "" : ", ", count, tag);
    }
    result.push_back({name, fmt::format("{} ({})", device.description, tags), {}});
  }
  return result;
}

std::vector<Listed> listed(const std::string& what) {
  if (what == "routing") return policies<RoutingPolicy>();
  if (what == "eviction") return policies<EvictionPolicy>();
  if (what == "prefetch") return policies<Prefetcher>();
  return what == "models" ? models() : devices();
}

void print_text(const std::vector<Listed>& things) {
  for (const Listed& thing : things) {
    std::cout << fmt::format("{:<22} {}\n", thing.name, thing.description);
    for (const Parameter& parameter : thing.parameters) {
      std::cout << fmt::format("    {:<22} {:<22} {}\n", parameter.name,
                               "default " + parameter.default_value.dump(), parameter.text);
    }
  }
}

void print_json(const std::vector<Listed>& things) {
  Json result = Json::array();
  for (const Listed& thing : things) {
    Json parameters = Json::array();
    for (const Parameter& parameter : thing.parameters) {
      parameters.push_back({{"name", parameter.name},
                            {"default", parameter.default_value},
                            {"description", parameter.text}});
    }
    result.push_back(
        {{"name", thing.name}, {"description", thing.description}, {"parameters", parameters}});
  }
  std::cout << result.dump(2) << "\n";
}

}  // namespace

void add_list_command(CLI::App& app) {
  CLI::App* list = app.add_subcommand("list", "what can be named in a configuration");
  auto what = std::make_shared<std::string>();
  auto as_json = std::make_shared<bool>(false);
  list->add_option("KIND", *what, "routing, eviction, prefetch, models or devices")
      ->required()
      ->check(CLI::IsMember({"routing", "eviction", "prefetch", "models", "devices"}));
  list->add_flag("--json", *as_json, "as JSON");
  list->callback([what, as_json] {
    const std::vector<Listed> things = listed(*what);
    if (*as_json) {
      print_json(things);
    } else {
      print_text(things);
    }
  });
}

}  // namespace moesim::cli
