#include "core/temporary_folder.h"

#include <stdlib.h>  // NOLINT(modernize-deprecated-headers): mkdtemp is POSIX

#include <string>
#include <system_error>

#include "core/errors.h"

namespace moesim {

TemporaryFolder::TemporaryFolder() {
  std::error_code error;
  const std::filesystem::path base = std::filesystem::temp_directory_path(error);
  std::string name = (base / "moesim-XXXXXX").string();
  if (error || mkdtemp(name.data()) == nullptr) {
    throw user_error(error ? "TMPDIR" : name,
                     "a folder for temporary files cannot be made here (TMPDIR names another)");
  }
  path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace moesim
