// Strict JSON: what nlohmann/json accepts, less duplicate keys.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

namespace moesim {

// Keeps the order of keys, so that what is written reads like what was meant.
using Json = nlohmann::ordered_json;

// Parses `text`. Throws UserError "SHOWN: line L, column C: ..." or "SHOWN: /pointer: duplicate
// key".
Json parse_json(const std::string& text, const std::string& shown);

// Reads and parses a file; `shown` is how error messages call it.
Json read_json_file(const std::filesystem::path& path, const std::string& shown);

}  // namespace moesim
