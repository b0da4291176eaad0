#include "api/overrides.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>

#include "cache/eviction/eviction_policy.h"
#include "core/errors.h"
#include "prefetch/prefetcher.h"
#include "routing/routing_policy.h"

namespace moesim {
namespace {

struct Override {
  std::string pointer;
  Json value;
};

// A bare word is a string; it must be text.
Json checked_word(const std::string& pointer, const std::string& word) {
  if (Json::parse('"' + word + '"', nullptr, false).is_discarded()) {
    throw user_error("--set " + pointer, "expected JSON or a word in UTF-8");
  }
  return word;
}

Override parse_override(const std::string& text) {
  const auto equals = text.find('=');
  if (text.empty() || text.front() != '/' || equals == std::string::npos || equals < 2) {
    throw user_error("--set " + text,
                     "expected /POINTER=VALUE, for example /cache/capacity_mib=2000");
  }
  Override result{text.substr(0, equals), nullptr};
  const std::string value = text.substr(equals + 1);
  const bool meant_json = !value.empty() && std::string("{[\"").find(value[0]) != std::string::npos;
  if (meant_json) {
    result.value = parse_json(value, "--set " + result.pointer);
  } else {
    result.value = Json::parse(value, nullptr, false);
    if (result.value.is_discarded()) result.value = checked_word(result.pointer, value);
  }
  return result;
}

// Parameter names of a policy; nothing for an unknown one, whose error comes later.
template <class Interface>
std::set<std::string> parameters_of(const std::string& policy) {
  std::set<std::string> names;
  const auto& all = Registry<Interface>::instance().all();
  const auto found = all.find(policy);
  if (found == all.end()) return names;
  for (const Parameter& parameter : found->second.parameters) names.insert(parameter.name);
  return names;
}

bool is_policy(const std::string& section, const std::string& policy) {
  if (section == "/routing") return Registry<RoutingPolicy>::instance().all().contains(policy);
  if (section == "/weights/on_miss") return true;
  if (section.ends_with("/eviction")) {
    return Registry<EvictionPolicy>::instance().all().contains(policy);
  }
  return Registry<Prefetcher>::instance().all().contains(policy);
}

std::set<std::string> known_parameters(const std::string& section, const std::string& policy) {
  if (section == "/routing") {
    auto names = parameters_of<RoutingPolicy>(policy);
    names.insert("k");
    return names;
  }
  if (section == "/weights/on_miss") {
    return policy == "full" ? std::set<std::string>{}
                            : std::set<std::string>{"low_bits", "thresholds"};
  }
  if (section.ends_with("/eviction")) return parameters_of<EvictionPolicy>(policy);
  return parameters_of<Prefetcher>(policy);
}

class Overrider {
 public:
  Overrider(Json& root, std::vector<std::string>& warnings) : root_(root), warnings_(warnings) {}

  void apply(const Override& change) {
    const Json::json_pointer pointer = checked_pointer(change.pointer);
    const std::string parent = change.pointer.substr(0, change.pointer.rfind('/'));
    const std::string& key = pointer.back();
    if (key == "policy") drop_foreign_parameters(parent, change.value);
    if (parent == "/cache" && root_.contains("cache")) drop_other_capacities(key);
    root_[pointer] = change.value;
    from_command_line_.insert(change.pointer);
  }

 private:
  // A misspelt key drops none, so that it is the one that is complained about.
  void drop_other_capacities(const std::string& key) {
    constexpr std::array<const char*, 3> kCapacities{"capacity_experts", "capacity_fraction",
                                                     "capacity_mib"};
    if (std::find(kCapacities.begin(), kCapacities.end(), key) == kCapacities.end()) return;
    for (const char* other : kCapacities) root_["cache"].erase(other);
  }

  // Every step but the last must be an object or missing.
  Json::json_pointer checked_pointer(const std::string& text) const {
    try {
      Json::json_pointer pointer(text);
      for (auto above = pointer.parent_pointer();; above = above.parent_pointer()) {
        if (root_.contains(above) && !root_.at(above).is_object()) {
          throw user_error("--set " + text, "expected an object at " + above.to_string() +
                                                ", got " + root_.at(above).dump());
        }
        if (above.empty()) break;
      }
      return pointer;
    } catch (const Json::exception&) {
      throw user_error("--set " + text, "expected a JSON pointer such as /cache/capacity_mib");
    }
  }

  void drop_foreign_parameters(const std::string& section, const Json& policy) {
    const Json::json_pointer place(section);
    if (!policy.is_string() || !root_.contains(place)) return;
    Json& parameters = root_[place];
    const auto known = known_parameters(section, policy.get<std::string>());
    if (!is_policy(section, policy.get<std::string>())) return;  // its error comes later
    std::vector<std::string> dropped;
    for (const auto& item : parameters.items()) {
      const bool stays = item.key() == "policy" || known.contains(item.key()) ||
                         from_command_line_.contains(section) ||
                         from_command_line_.contains(section + "/" + item.key());
      if (!stays) dropped.push_back(item.key());
    }
    for (const std::string& name : dropped) parameters.erase(name);
    if (!dropped.empty()) {
      warnings_.push_back(
          fmt::format("{} {} of the configuration left out: {} has no such parameter", section,
                      fmt::join(dropped, ", "), policy.get<std::string>()));
    }
  }

  Json& root_;
  std::vector<std::string>& warnings_;
  std::set<std::string> from_command_line_;
};

}  // namespace

void apply_overrides(Json& root, const std::vector<std::string>& overrides,
                     std::vector<std::string>& warnings) {
  Overrider overrider(root, warnings);
  for (const std::string& text : overrides) overrider.apply(parse_override(text));
}

}  // namespace moesim
