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

UserError cannot_write(const fs::path& path, const std::string& why) {
  return user_error(path.string(), "cannot be written: " + why);
}

}  // namespace

StagedFile::StagedFile(const fs::path& path, const std::function<void(std::ostream&)>& write)
    : path_(path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (error && status.type() != fs::file_type::not_found) throw cannot_write(path, error.message());
  if (fs::is_directory(status)) throw user_error(path.string(), "expected a file, got a directory");
  if (fs::exists(status) && !fs::is_regular_file(status)) {
    direct_ = write;
    return;
  }
  if (fs::is_symlink(fs::symlink_status(path, error))) path_ = fs::weakly_canonical(path, error);
  temporary_ = path_;
  temporary_ += ".tmp" + std::to_string(::getpid());
  std::ofstream out(temporary_, std::ios::binary | std::ios::trunc);
  if (!out) {
    temporary_.clear();
    throw cannot_write(path, std::strerror(errno));
  }
  write(out);
  out.flush();
  if (!out) {
    out.close();
    fs::remove(temporary_, error);
    throw cannot_write(path, "writing failed (is the disk full?)");
  }
}

StagedFile::~StagedFile() {
  std::error_code ignored;
  if (!temporary_.empty()) fs::remove(temporary_, ignored);
}

void StagedFile::commit() {
  if (direct_) {
    std::ofstream device(path_, std::ios::binary);
    direct_(device);
    if (!device.flush()) throw cannot_write(path_, "writing failed");
    return;
  }
  std::error_code error;
  fs::rename(temporary_, path_, error);
  if (error) throw cannot_write(path_, error.message());
  temporary_.clear();
}

void write_file_atomically(const fs::path& path, const std::function<void(std::ostream&)>& write) {
  StagedFile(path, write).commit();
}

namespace {

class Sha256 {
 public:
  Sha256() : context_(EVP_MD_CTX_new(), &EVP_MD_CTX_free) {
    if (!context_ || EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) != 1) {
      throw InvariantError("SHA-256 is not available");
    }
  }
  void add(std::string_view bytes) { EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()); }
  std::string hex() {
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned int length = 0;
    EVP_DigestFinal_ex(context_.get(), digest.data(), &length);
    constexpr std::string_view kDigits = "0123456789abcdef";
    std::string text;
    for (unsigned int i = 0; i < length; ++i) {
      text += kDigits[digest[i] >> 4U];
      text += kDigits[digest[i] & 15U];
    }
    return text;
  }

 private:
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_;
};

}  // namespace

std::string sha256_of_file(const fs::path& path) {
  require_regular_file(path, path.string());
  std::ifstream in(path, std::ios::binary);
  if (!in) throw user_error(path.string(), "cannot be read");
  Sha256 sum;
  std::array<char, 1 << 16> buffer{};
  while (in) {
    in.read(buffer.data(), buffer.size());
    sum.add({buffer.data(), static_cast<std::size_t>(in.gcount())});
  }
  return sum.hex();
}

std::string sha256_of_text(std::string_view text) {
  Sha256 sum;
  sum.add(text);
  return sum.hex();
}

}  // namespace moesim
