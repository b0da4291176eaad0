#include "core/files.h"

#include <openssl/evp.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>
#include <sstream>
#include <system_error>

#include "core/errors.h"

namespace moesim {

namespace fs = std::filesystem;

void require_regular_file(const fs::path& path, const std::string& shown) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::not_found) {
    throw user_error(shown, "expected a file, got nothing: no such file");
  }
  if (error) throw user_error(shown, "cannot be read: " + error.message());
  if (fs::is_directory(status)) throw user_error(shown, "expected a file, got a directory");
  if (!fs::is_regular_file(status)) throw user_error(shown, "expected a regular file");
}

std::string read_text_file(const fs::path& path, const std::string& shown) {
  require_regular_file(path, shown);
  std::ifstream in(path, std::ios::binary);
  if (!in) throw user_error(shown, std::string("cannot be read: ") + std::strerror(errno));
  std::ostringstream text;
  text << in.rdbuf();
  if (in.bad()) throw user_error(shown, "reading failed");
  return std::move(text).str();
}

namespace {

// Removes the file unless release() was called.
class TemporaryFile {
 public:
  explicit TemporaryFile(fs::path path) : path_(std::move(path)) {}
  ~TemporaryFile() {
    std::error_code ignored;
    if (!released_) fs::remove(path_, ignored);
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  [[nodiscard]] const fs::path& path() const { return path_; }
  void release() { released_ = true; }

 private:
  fs::path path_;
  bool released_ = false;
};

}  // namespace

void write_file_atomically(const fs::path& path, const std::function<void(std::ostream&)>& write) {
  std::error_code status_error;
  const fs::file_status status = fs::status(path, status_error);
  if (status_error && status.type() != fs::file_type::not_found) {
    throw user_error(path.string(), "cannot be written: " + status_error.message());
  }
  if (fs::is_directory(status)) throw user_error(path.string(), "expected a file, got a directory");
  if (fs::exists(status) &&
      !fs::is_regular_file(status)) {  // A device or a pipe: nothing to replace.
    std::ofstream device(path, std::ios::binary);
    write(device);
    if (!device.flush()) throw user_error(path.string(), "writing failed");
    return;
  }
  fs::path temporary_path = path;
  temporary_path += ".tmp" + std::to_string(::getpid());
  TemporaryFile temporary(temporary_path);
  {
    std::ofstream out(temporary.path(), std::ios::binary | std::ios::trunc);
    if (!out) {
      throw user_error(path.string(), std::string("cannot be written: ") + std::strerror(errno));
    }
    write(out);
    out.flush();
    if (!out) throw user_error(path.string(), "writing failed (is the disk full?)");
  }
  std::error_code error;
  fs::rename(temporary.path(), path, error);
  if (error) throw user_error(path.string(), "cannot be written: " + error.message());
  temporary.release();
}

std::string sha256_of_file(const fs::path& path) {
  require_regular_file(path, path.string());
  std::ifstream in(path, std::ios::binary);
  if (!in) throw user_error(path.string(), "cannot be read");
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                        &EVP_MD_CTX_free);
  if (!context || EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) != 1) {
    throw InvariantError("SHA-256 is not available");
  }
  std::array<char, 1 << 16> buffer{};
  while (in) {
    in.read(buffer.data(), buffer.size());
    EVP_DigestUpdate(context.get(), buffer.data(), static_cast<std::size_t>(in.gcount()));
  }
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int length = 0;
  EVP_DigestFinal_ex(context.get(), digest.data(), &length);
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string hex;
  for (unsigned int i = 0; i < length; ++i) {
    hex += kDigits[digest[i] >> 4U];
    hex += kDigits[digest[i] & 15U];
  }
  return hex;
}

}  // namespace moesim
