// Models and devices that come with the program, by name, and references to them or to files from
// a configuration.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "config/section.h"

namespace moesim {

// The folder that holds models/ and devices/: $MOESIM_CONFIG_DIR, else what carry_builtin_folder()
// was told, else ../share/moesim/configs beside the folder of the program, else configs/ of the
// source tree it was built from. Throws UserError when none is there.
std::filesystem::path builtin_folder();

// For who is no program of its own and brings the folder along (the Python package). Call before
// anything looks for a name.
void carry_builtin_folder(std::filesystem::path folder);

// Names (file names without .json) of one kind, "models" or "devices", sorted. Throws UserError
// when the folder is missing.
std::vector<std::string> builtin_names(const std::string& kind);

// The file of one name. Throws UserError for an unknown name; the message lists the known ones.
std::filesystem::path builtin_path(const std::string& kind, const std::string& name);

// Where a section was read from.
struct ConfigSource {
  std::filesystem::path file;  // empty: an object that stands in the parent itself
  std::string shown;           // the file as messages call it; for an object, as its parent
};

// Reads a file of `kind` for the command line: a bare name (no slash, no .json, no such file here)
// is a built-in one. Throws UserError.
Section open_named(const std::string& reference, const std::string& kind,
                   ConfigSource* source = nullptr);

// The object that `key` of `parent` refers to: an object itself, a path relative to `base_dir` (the
// folder of the parent's file), or a bare built-in name of `kind`. Throws UserError that names the
// parent's place when the reference is wrong, and the file's own place when its content is.
// The caller checks the content and refuses unread keys.
Section open_reference(Section& parent, const std::string& key, const std::string& kind,
                       const std::filesystem::path& base_dir, ConfigSource* source = nullptr);

}  // namespace moesim
