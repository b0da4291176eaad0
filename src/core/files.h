// Whole files: read, checksum, and write so that a file appears complete or not at all.
#pragma once

#include <filesystem>
#include <functional>
#include <iosfwd>
#include <string>
#include <string_view>

namespace moesim {

// The whole content. Throws UserError (missing, a directory, not readable), naming `shown`.
std::string read_text_file(const std::filesystem::path& path, const std::string& shown);

// A file that is written beside its place first and put there by commit(); until then, and if
// anything fails, the place is as before. Several outputs of one command are all staged before the
// first is committed. A link is followed; a device or a pipe is written by commit().
class StagedFile {
 public:
  // Throws UserError.
  StagedFile(const std::filesystem::path& path, const std::function<void(std::ostream&)>& write);
  ~StagedFile();
  StagedFile(const StagedFile&) = delete;
  StagedFile& operator=(const StagedFile&) = delete;
  // Throws UserError.
  void commit();

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;            // empty: nothing to clean up
  std::function<void(std::ostream&)> direct_;  // for what cannot be replaced
};

// Stages and commits one file. Throws UserError.
void write_file_atomically(const std::filesystem::path& path,
                           const std::function<void(std::ostream&)>& write);

// Lower-case hexadecimal SHA-256 of the file's bytes. Throws UserError.
std::string sha256_of_file(const std::filesystem::path& path);

// The same of a text.
std::string sha256_of_text(std::string_view text);

// Throws UserError unless `path` is an existing regular file: "no such file", "is a directory,
// ...".
void require_regular_file(const std::filesystem::path& path, const std::string& shown);

}  // namespace moesim
