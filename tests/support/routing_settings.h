// Settings at which the tests over the registry run a routing policy. A policy that is not named
// here runs with its defaults alone.
#pragma once

#include <filesystem>
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
      {"odp", Use::kVariant,
       [](For) {
         return Json{{"protect", "paper"}, {"as_prompt", true}, {"protect_share", 0.1}};
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
