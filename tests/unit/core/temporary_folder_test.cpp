#include "core/temporary_folder.h"

#include <stdlib.h>  // NOLINT(modernize-deprecated-headers): setenv is POSIX

#include <filesystem>
#include <fstream>
#include <optional>

#include "support/testing.h"

namespace moesim::test {
namespace {

namespace fs = std::filesystem;

// TMPDIR for as long as it lives.
class Tmpdir {
 public:
  explicit Tmpdir(const std::string& value) {
    if (const char* was = std::getenv("TMPDIR")) was_ = was;
    setenv("TMPDIR", value.c_str(), 1);
  }
  ~Tmpdir() {
    if (was_) {
      setenv("TMPDIR", was_->c_str(), 1);
    } else {
      unsetenv("TMPDIR");
    }
  }
  Tmpdir(const Tmpdir&) = delete;
  Tmpdir& operator=(const Tmpdir&) = delete;

 private:
  std::optional<std::string> was_;
};

}  // namespace

TEST_SUITE("core/temporary_folder") {
  TEST_CASE("a folder of its own below TMPDIR is gone afterwards with all that is in it") {
    const TemporaryFolder place;
    const Tmpdir tmpdir(place.path());
    {
      const TemporaryFolder first;
      const TemporaryFolder second;
      CHECK(first.path() != second.path());
      CHECK(first.path().parent_path() == place.path());
      fs::create_directory(first.path() / "sub");
      std::ofstream(first.path() / "sub" / "file") << "text";
      CHECK(fs::exists(first.path() / "sub" / "file"));
    }
    CHECK(fs::is_empty(place.path()));
  }

  TEST_CASE("it is gone after an error too, and its own removal is no error") {
    const TemporaryFolder place;
    const Tmpdir tmpdir(place.path());
    CHECK_THROWS_AS(
        [] {
          const TemporaryFolder folder;
          throw user_error("x", "y");
        }(),
        UserError);
    CHECK(fs::is_empty(place.path()));
    {
      const TemporaryFolder folder;
      fs::remove(folder.path());
    }
    CHECK(fs::is_empty(place.path()));
  }

  TEST_CASE("where none can be made the message names the place") {
    const TemporaryFolder place;
    const Tmpdir tmpdir((place.path() / "none").string());
    CHECK(user_error_of([] { const TemporaryFolder folder; }) ==
          "TMPDIR: a folder for temporary files cannot be made here (TMPDIR names another)");
  }
}

}  // namespace moesim::test
