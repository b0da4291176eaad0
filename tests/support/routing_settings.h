// Settings at which the tests over the registry run a routing policy. A policy that is not named
// here runs with its defaults alone.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "config/json_file.h"
#include "core/ids.h"

namespace moesim::test {

// What settings may depend on.
struct SettingsFor {
  std::filesystem::path folder;  // for files that the settings name
  RoutingShape shape;            // of the trace
  std::size_t k = 0;
};

struct RoutingSettings {
  enum class Use { kNeeded, kVariant };
  const char* policy;
  // kNeeded: without them the policy does not run at all; they stand under every other setting of
  // it. kVariant: run besides the defaults.
  Use use;
  Json (*settings)(const SettingsFor&);
};

// Deltas for each 100 tokens, which are one sequence in the tests' traces.
inline Json recorded_deltas(const SettingsFor& at) {
  Json segments = Json::array();
  for (std::size_t s = 0; s < at.shape.tokens / 100; ++s) {
    Json layers = Json::array();
    for (std::size_t l = 0; l < at.shape.layers; ++l) {
      std::vector<double> delta(at.shape.experts);
      for (std::size_t e = 0; e < delta.size(); ++e) {
        delta[e] = static_cast<double>((7 * e + 3 * s + l) % 5) / 2 - 1;
      }
      layers.push_back(delta);
    }
    segments.push_back(layers);
  }
  std::ofstream(at.folder / "delta.json") << Json{{"delta", segments}};
  return {{"delta", (at.folder / "delta.json").string()}};
}

// One line for each.
inline const std::vector<RoutingSettings>& routing_settings() {
  using Use = RoutingSettings::Use;
  using For = const SettingsFor&;
  static const std::vector<RoutingSettings> table = {
      {"bounded_regret", Use::kVariant,
       [](For) {
         return Json{{"regret", 1}, {"score", "logit"}};
       }},
      {"cecar", Use::kVariant,
       [](For) {
         return Json{{"tau", 1}};
       }},
      {"cecar", Use::kVariant,
       [](For) {
         return Json{{"tau", 1}, {"score", "lru"}, {"inverted_sign", true}};
       }},
      {"cecar", Use::kVariant,
       [](For) {
         return Json{{"tau", 1}, {"fill", false}, {"score", "lru"}};
       }},
      {"drop_cold", Use::kVariant,
       [](For) {
         return Json{{"F", 1}};
       }},
      {"global_budget", Use::kVariant,
       [](For at) {
         return Json{{"k_max", at.k}, {"budget", 0.75}};
       }},
      {"layer_plan", Use::kVariant,
       [](For at) {
         return Json{{"executions", std::vector<int>(at.shape.layers, 2)}};
       }},
      {"odp", Use::kVariant,
       [](For) {
         return Json{{"protect", "paper"}, {"as_prompt", true}, {"protect_share", 0.1}};
       }},
      {"rewiring", Use::kVariant, &recorded_deltas},
      {"selection_bias", Use::kVariant,
       [](For) {
         return Json{{"u", 0.05}, {"window", 4}};
       }},
      {"selection_bias", Use::kVariant,
       [](For) {
         return Json{{"target", "residency"}, {"u", 0.05}, {"window", 4}};
       }},
      {"selection_bias", Use::kVariant,
       [](For) {
         return Json{{"rule", "gradient"}, {"eta", 0.02}, {"window", 4}};
       }},
      {"steering", Use::kVariant,
       [](For) {
         return Json{{"mode", "activate"}, {"experts", {{1, 5}}}};
       }},
      {"steering", Use::kVariant,
       [](For) {
         return Json{{"mode", "suppress"}};
       }},
      {"top_p", Use::kVariant,
       [](For at) {
         return Json{{"P", 0.8}, {"k_max", at.k}};
       }},
      {"tsallis_hybrid", Use::kVariant,
       [](For) {
         return Json{{"renormalise", true}, {"threshold", 1.7}};
       }},
  };
  return table;
}

inline Json needed_settings(const std::string& policy, const SettingsFor& at) {
  Json settings = {{"policy", policy}};
  for (const RoutingSettings& entry : routing_settings()) {
    if (policy == entry.policy && entry.use == RoutingSettings::Use::kNeeded) {
      settings.update(entry.settings(at));
    }
  }
  return settings;
}

// The configurations of one policy: what it needs, and that with each variant.
inline std::vector<Json> runnable_settings(const std::string& policy, const SettingsFor& at) {
  std::vector<Json> configs = {needed_settings(policy, at)};
  for (const RoutingSettings& entry : routing_settings()) {
    if (policy != entry.policy || entry.use != RoutingSettings::Use::kVariant) continue;
    configs.push_back(configs.front());
    configs.back().update(entry.settings(at));
  }
  return configs;
}

}  // namespace moesim::test
