// Whole files: read, checksum, and write so that a file appears complete or not at all.
#pragma once

#include <filesystem>
#include <functional>
#include <iosfwd>
#include <string>

namespace moesim {

// The whole content. Throws UserError (missing, a directory, not readable), naming `shown`.
std::string read_text_file(const std::filesystem::path& path, const std::string& shown);

// Calls `write` on a temporary file beside `path` and renames it onto `path` at the end; if
// anything fails the temporary file is removed and `path` is as before. Throws UserError.
void write_file_atomically(const std::filesystem::path& path,
                           const std::function<void(std::ostream&)>& write);

// Lower-case hexadecimal SHA-256 of the file's bytes. Throws UserError.
std::string sha256_of_file(const std::filesystem::path& path);

// Throws UserError unless `path` is an existing regular file: "no such file", "is a directory,
// ...".
void require_regular_file(const std::filesystem::path& path, const std::string& shown);

}  // namespace moesim
