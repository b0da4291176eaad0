#include "calibration/machine_scratch.h"

#include <fstream>
#include <iterator>
#include <string>

#include "support/testing.h"

namespace moesim::test {

TEST_SUITE("calibration/machine_scratch") {
  bool is_empty(const TemporaryFolder& folder) { return std::filesystem::is_empty(folder.path()); }

  TEST_CASE("the file is readable by its path and never has a name in its folder") {
    const TemporaryFolder folder;
    std::filesystem::path gone;
    {
      ScratchFile file(folder.path());
      CHECK(is_empty(folder));
      file.fill(10 * kScratchPage + 5, 0, false, [] { return false; });
      CHECK(file.size() == 10 * kScratchPage);
      std::ifstream in(file.path(), std::ios::binary);
      const std::string content((std::istreambuf_iterator<char>(in)), {});
      CHECK(content.size() == file.size());
      CHECK(content.substr(0, 64) != content.substr(64, 64));
      CHECK(is_empty(folder));
      gone = file.path();
    }
    CHECK(is_empty(folder));
  }

  TEST_CASE("a fill ends when it is enough, but not below the least") {
    const TemporaryFolder folder;
    ScratchFile file(folder.path());
    constexpr std::uint64_t kBlock = std::uint64_t{4} << 20;
    file.fill(4 * kBlock, kBlock + 1, false, [] { return true; });
    CHECK(file.size() == 2 * kBlock);
    CHECK(is_empty(folder));
  }

  TEST_CASE("a folder that does not do is refused") {
    const TemporaryFolder folder;
    const auto missing = folder.path() / "missing";
    CHECK(contains(user_error_of([&] { free_bytes_for_scratch(missing); }), "no such folder"));
    CHECK(contains(user_error_of([&] { ScratchFile file(missing); }), "could not be written"));
    const auto plain = folder.path() / "plain";
    std::ofstream(plain) << "x";
    CHECK(contains(user_error_of([&] { free_bytes_for_scratch(plain); }), "got a file"));
    CHECK(free_bytes_for_scratch(folder.path()) > 0);
  }

  TEST_CASE("a file system without direct reads is refused, and what to do is said") {
    CHECK_NOTHROW(require_direct("d", {true, ""}));
    const std::string message = user_error_of([] { require_direct("d", {false, "its reason"}); });
    CHECK(contains(message, "d: the file system takes no direct reads, O_DIRECT (its reason)"));
    CHECK(contains(message, "--buffered"));
  }

  TEST_CASE("a disk with too little room is refused before anything is written") {
    const std::uint64_t gib = std::uint64_t{1} << 30;
    CHECK_NOTHROW(require_space("d", 2 * gib, gib));
    const std::string message = user_error_of([&] { require_space("d", gib, gib); });
    CHECK(message ==
          "d: expected 1.06 GiB to be free for the scratch file, got 1.00 GiB; --max-disk-gib "
          "makes it smaller");
  }
}

}  // namespace moesim::test
