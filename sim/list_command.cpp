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
  // Of policies.
  std::string source;
  Json neutral;  // null where there is no such setting
  std::vector<Parameter> parameters;
  // Of devices: how many numbers carry each tag, and the numbers that matter most with theirs.
  Json tags = nullptr;  // null of others
  Json values = nullptr;
};

// k of the example that neutral settings are shown at, and another one that tells what is k.
constexpr std::size_t kExampleK = 8;
constexpr std::size_t kOtherK = 6;

// "M = k, keep_top = 2"; "any" for a policy without parameters.
std::string neutral_text(About::Neutral neutral, bool has_parameters) {
  const Json parameters = neutral(kExampleK);
  const Json other = neutral(kOtherK);
  std::string text;
  for (const auto& item : parameters.items()) {
    const bool is_k = item.value() == Json(kExampleK) && other.at(item.key()) == Json(kOtherK);
    text += fmt::format("{}{} = {}", text.empty() ? "" : ", ", item.key(),
                        is_k ? "k" : item.value().dump());
  }
  if (!text.empty()) return text;
  return has_parameters ? "the defaults" : "any";
}

Json neutral_json(About::Neutral neutral, bool has_parameters) {
  if (neutral == nullptr) return nullptr;
  return {{"k", kExampleK},
          {"parameters", neutral(kExampleK)},
          {"text", neutral_text(neutral, has_parameters)}};
}

template <class Interface>
std::vector<Listed> policies() {
  std::vector<Listed> result;
  for (const auto& [name, entry] : Registry<Interface>::instance().all()) {
    const About& about = entry.about;
    result.push_back({name, about.description, about.source,
                      neutral_json(about.neutral, !entry.parameters.empty()), entry.parameters});
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
         "",
         nullptr,
         {}});
  }
  return result;
}

// The numbers that decide a run most: [{key, value, tag, source}].
Json key_values(const Device& device, const Json& file) {
  Json values = Json::array();
  const auto add = [&](const std::string& pointer) {
    if (!device.provenance.contains(pointer)) return;
    const Json& from = device.provenance.at(pointer);
    values.push_back({{"key", pointer.substr(1)},
                      {"value", file.at(Json::json_pointer(pointer))},
                      {"tag", from.at("tag")},
                      {"source", from.at("source")}});
  };
  for (const char* pointer : {"/flash/bw_gbps", "/flash/host_delay_us", "/flash/bounce_gbps",
                              "/dram/total_gbps", "/dram/cpu_gbps"}) {
    add(pointer);
  }
  for (const auto& [format, rate] : device.cpu.kernel_gbps) {
    add("/cpu/" + format + "_kernel_gbps");
  }
  add("/memory/app_budget_mib");
  return values;
}

// "flash/bw_gbps 2.406 (derived), dram/total_gbps 61.9 (measured)".
std::string values_text(const Json& values) {
  std::string text;
  for (const Json& value : values) {
    text +=
        fmt::format("{}{} {} ({})", text.empty() ? "" : ", ", value.at("key").get<std::string>(),
                    value.at("value").dump(), value.at("tag").get<std::string>());
  }
  return text;
}

std::vector<Listed> devices() {
  std::vector<Listed> result;
  for (const std::string& name : builtin_names("devices")) {
    const Section file = open_named(name, "devices");
    const Device device = read_device(file);
    std::string tags;
    for (const auto& [tag, count] : device.count_tags()) {
      if (count > 0) tags += fmt::format("{}{} {}", tags.empty() ? "" : ", ", count, tag);
    }
    result.push_back({name, fmt::format("{} ({})", device.description, tags), "", nullptr, {}});
    result.back().tags = device.count_tags();
    result.back().values = key_values(device, file.json());
  }
  return result;
}

std::vector<Listed> listed(const std::string& what) {
  if (what == "routing") return policies<RoutingPolicy>();
  if (what == "eviction") return policies<EvictionPolicy>();
  if (what == "prefetch") return policies<Prefetcher>();
  return what == "models" ? models() : devices();
}

// "number in [0, 1], default 0.2"; "string: mean|token|ema, default "mean"".
std::string value_text(const Parameter& parameter) {
  const bool interval = parameter.range.front() == '[' || parameter.range.front() == '(';
  return fmt::format("{}{} {}, default {}", parameter.type, interval ? " in" : ":", parameter.range,
                     parameter.default_value.dump());
}

void print_text(const std::vector<Listed>& things) {
  const char* separator = "";
  for (const Listed& thing : things) {
    if (!thing.source.empty()) std::cout << separator;
    separator = "\n";
    std::cout << fmt::format("{:<22} {}\n", thing.name, thing.description);
    if (!thing.source.empty()) std::cout << fmt::format("    {:<22} {}\n", "source", thing.source);
    if (!thing.neutral.is_null()) {
      std::cout << fmt::format("    {:<22} {}\n", "neutral setting",
                               thing.neutral.at("text").get<std::string>());
    }
    if (!thing.values.is_null()) {
      std::cout << fmt::format("    {:<18} {}\n", "key values", values_text(thing.values));
    }
    for (const Parameter& parameter : thing.parameters) {
      std::cout << fmt::format("    {:<22} {}\n", parameter.name, parameter.text);
      std::cout << fmt::format("    {:<22} {}\n", "", value_text(parameter));
      std::cout << fmt::format("    {:<22} source: {}\n", "", parameter.source);
    }
  }
}

Json parameters_json(const std::vector<Parameter>& parameters) {
  Json result = Json::array();
  for (const Parameter& parameter : parameters) {
    result.push_back({{"name", parameter.name},
                      {"description", parameter.text},
                      {"type", parameter.type},
                      {"default", parameter.default_value},
                      {"range", parameter.range},
                      {"source", parameter.source}});
  }
  return result;
}

void print_json(const std::vector<Listed>& things) {
  Json result = Json::array();
  for (const Listed& thing : things) {
    Json json = {{"name", thing.name}, {"description", thing.description}};
    if (!thing.source.empty()) {
      json["source"] = thing.source;
      json["neutral"] = thing.neutral;
    }
    if (!thing.tags.is_null()) {
      json["tags"] = thing.tags;
      json["key_values"] = thing.values;
    }
    json["parameters"] = parameters_json(thing.parameters);
    result.push_back(std::move(json));
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
