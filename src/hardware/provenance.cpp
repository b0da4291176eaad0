#include "hardware/provenance.h"

#include <map>
#include <string>
#include <vector>

namespace moesim {
namespace {

const std::vector<std::string>& tags() {
  static const std::vector<std::string> kTags = {"measured", "vendor", "derived", "estimate"};
  return kTags;
}

std::vector<std::string> pointers_of_numbers(const Json& device) {
  Json content = device;
  content.erase("provenance");
  content.erase("schema");
  content.erase("calibration");
  std::vector<std::string> pointers;
  const Json leaves = content.flatten();
  for (const auto& leaf : leaves.items()) {
    if (leaf.value().is_number()) pointers.push_back(leaf.key());
  }
  return pointers;
}

bool covers(const std::string& entry, const std::string& pointer) {
  return pointer.starts_with(entry) &&
         (pointer.size() == entry.size() || pointer[entry.size()] == '/');
}

Json read_entry(Section entry) {
  Json result;
  result["tag"] = entry.choice("tag", tags());
  result["source"] = entry.string("source");
  if (result["source"] == "") throw entry.error("source", "expected a source, got \"\"");
  entry.know("spread");
  if (entry.has("spread")) result["spread"] = entry.number("spread", {0.0, 1.0});
  return result;
}

// The longest of `entries` that covers `pointer`; end() when none does.
std::map<std::string, Json>::const_iterator closest_entry(
    const std::map<std::string, Json>& entries, const std::string& pointer) {
  auto closest = entries.end();
  for (auto entry = entries.begin(); entry != entries.end(); ++entry) {
    if (!covers(entry->first, pointer)) continue;
    if (closest == entries.end() || entry->first.size() > closest->first.size()) closest = entry;
  }
  return closest;
}

}  // namespace

Json resolve_provenance(Section& device) {
  Section provenance = device.object("provenance");
  const std::vector<std::string> pointers = pointers_of_numbers(device.json());
  std::map<std::string, Json> entries;
  for (const auto& item : provenance.json().items()) {
    entries[item.key()] = read_entry(provenance.object(item.key()));
    bool used = false;
    for (const std::string& pointer : pointers) used = used || covers(item.key(), pointer);
    if (!used) {
      throw provenance.error(item.key(),
                             "expected a JSON pointer to a number of this device or to "
                             "what holds one, got \"" +
                                 item.key() + "\"");
    }
  }
  Json resolved = Json::object();
  for (const std::string& pointer : pointers) {
    const auto entry = closest_entry(entries, pointer);
    if (entry == entries.end()) {
      throw user_error(
          device.file() + ": " + device.pointer() + pointer,
          "expected an entry \"" + pointer + "\" in provenance for this number, got none");
    }
    resolved[pointer] = entry->second;
  }
  return resolved;
}

}  // namespace moesim
