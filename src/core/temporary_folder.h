// A folder for files that only this process needs.
#pragma once

#include <filesystem>

namespace moesim {

// Made by the constructor below the system's folder for temporary files, removed with all that is
// in it by the destructor.
class TemporaryFolder {
 public:
  // Throws UserError where none can be made.
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace moesim
