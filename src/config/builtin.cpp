#include "config/builtin.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "core/files.h"

namespace moesim {
namespace {

namespace fs = std::filesystem;

// True for "olmoe-1b-7b", false for "models/olmoe-1b-7b" and "olmoe-1b-7b.json".
bool is_bare_name(const std::string& reference) {
  return reference.find('/') == std::string::npos && !reference.ends_with(".json");
}

Section read_section(const fs::path& path, const std::string& shown, ConfigSource* source) {
  if (source != nullptr) *source = {path, shown};
  return {read_json_file(path, shown), shown, ""};
}

Section read_builtin(const std::string& kind, const std::string& name, ConfigSource* source) {
  return read_section(builtin_path(kind, name), "built-in " + kind + "/" + name + ".json", source);
}

fs::path& carried_folder() {
  static fs::path folder;
  return folder;
}

}  // namespace

void carry_builtin_folder(fs::path folder) { carried_folder() = std::move(folder); }

fs::path builtin_folder() {
  const char* chosen = std::getenv("MOESIM_CONFIG_DIR");
  if (chosen != nullptr && *chosen != '\0') {
    if (!fs::is_directory(chosen))
      throw user_error("MOESIM_CONFIG_DIR", "no folder " + std::string(chosen));
    return chosen;
  }
  if (!carried_folder().empty()) return carried_folder();
  std::error_code unknown;
  const fs::path program = fs::read_symlink("/proc/self/exe", unknown);
  fs::path installed = program.parent_path().parent_path() / "share/moesim/configs";
  if (!unknown && fs::is_directory(installed)) return installed;
  fs::path source_tree = MOESIM_DEFAULT_CONFIG_DIR;
  if (fs::is_directory(source_tree)) return source_tree;
  throw user_error(installed.string(),
                   "no such folder; set MOESIM_CONFIG_DIR to the configs folder");
}

std::vector<std::string> builtin_names(const std::string& kind) {
  const fs::path folder = builtin_folder() / kind;
  if (!fs::is_directory(folder)) throw user_error(folder.string(), "no such folder");
  std::vector<std::string> names;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".json") names.push_back(entry.path().stem().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

fs::path builtin_path(const std::string& kind, const std::string& name) {
  const std::vector<std::string> names = builtin_names(kind);
  if (!std::binary_search(names.begin(), names.end(), name)) {
    throw user_error("built-in " + kind, unknown_name_message(name, names));
  }
  return builtin_folder() / kind / (name + ".json");
}

Section open_named(const std::string& reference, const std::string& kind, ConfigSource* source) {
  if (is_bare_name(reference) && !fs::is_regular_file(reference)) {
    return read_builtin(kind, reference, source);
  }
  return read_section(reference, reference, source);
}

Section open_reference(Section& parent, const std::string& key, const std::string& kind,
                       const fs::path& base_dir, ConfigSource* source) {
  if (parent.has(key) && parent.json().at(key).is_object()) {
    if (source != nullptr) *source = {{}, parent.file()};
    return parent.object(key);
  }
  if (parent.has(key) && !parent.json().at(key).is_string()) {
    throw parent.error(key, "expected a file, a built-in name or an object, got " +
                                parent.json().at(key).dump().substr(0, 60));
  }
  const std::string reference = parent.string(key);
  if (is_bare_name(reference)) {
    const std::vector<std::string> names = builtin_names(kind);
    if (!std::binary_search(names.begin(), names.end(), reference)) {
      throw parent.error(key, unknown_name_message(reference, names));
    }
    return read_builtin(kind, reference, source);
  }
  const fs::path path = base_dir / reference;
  try {
    require_regular_file(path, path.string());
  } catch (const UserError& error) {
    throw parent.error(key, error.what());
  }
  return read_section(path, path.string(), source);
}

}  // namespace moesim
