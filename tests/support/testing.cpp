#include "support/testing.h"

#include <cstdlib>

namespace moesim::test {

namespace fs = std::filesystem;

fs::path source_dir() { return MOESIM_SOURCE_DIR; }

Json golden(const std::string& name) {
  const fs::path path = source_dir() / "tests" / "golden" / name;
  return read_json_file(path, path.string());
}

std::optional<fs::path> third_party(const std::string& relative) {
  const char* root = std::getenv("MOESIM_DATA_DIR");
  if (root == nullptr || *root == '\0') {
    MESSAGE("skipped: MOESIM_DATA_DIR is not set, so " << relative << " is not at hand");
    return std::nullopt;
  }
  return fs::path(root) / relative;
}

}  // namespace moesim::test
