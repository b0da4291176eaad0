#include "kernels/store/mapped_store.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>

#include "core/errors.h"
#include "kernels/store/store_reader.h"
#include "support/small_store.h"
#include "support/testing.h"

namespace moesim::test {

TEST_SUITE("kernels/store/mapped_store") {
  TEST_CASE("every record that is mapped is the file's, also after it was dropped") {
    const SmallStore file;
    const ExpertStore store(file.path());
    MappedStore mapped(file.path());
    ThreadTeam team(2);
    const std::size_t record = store.layout().record_bytes();
    for (int round = 0; round < 2; ++round) {
      for (std::size_t layer = 0; layer < 3; ++layer) {
        for (std::size_t expert = 0; expert < 5; ++expert) {
          const std::uint64_t offset = store.offset(layer, expert);
          mapped.fault_in(offset, record, team);
          CHECK(store.is_intact(layer, expert, mapped.bytes(offset, record)));
          mapped.drop(offset, record);
        }
      }
    }
    const auto all = mapped.bytes(0, file.content().size());
    CHECK(std::equal(all.begin(), all.end(), file.content().begin(), file.content().end()));
  }

  TEST_CASE("pages are counted by where the range begins and ends") {
    const SmallStore file;
    const MappedStore mapped(file.path());
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    REQUIRE(file.content().size() >= 3 * page);
    for (const std::size_t threads : {1U, 2U, 5U}) {
      ThreadTeam team(threads);
      CHECK(mapped.fault_in(0, 0, team) == 0);
      CHECK(mapped.fault_in(0, 1, team) == 1);
      CHECK(mapped.fault_in(0, page, team) == 1);
      CHECK(mapped.fault_in(page - 1, 2, team) == 2);
      CHECK(mapped.fault_in(page, 2 * page, team) == 2);
      CHECK(mapped.fault_in(1, 2 * page, team) == 3);
    }
  }

  TEST_CASE("what was dropped is read from the device again") {
    const SmallStore file;
    const ReadSupport device = direct_support(file.path());
    if (!device.available) {
      MESSAGE("skipped: ", device.reason);
      return;
    }
    MappedStore mapped(file.path());
    ThreadTeam team(1);
    mapped.fault_in(0, file.content().size(), team);
    mapped.drop(0, file.content().size());
    const std::uint64_t before = major_faults();
    mapped.fault_in(0, file.content().size(), team);
    CHECK(major_faults() > before);
  }

  TEST_CASE("bytes behind the end, and files that cannot be mapped, are refused") {
    const SmallStore file;
    MappedStore mapped(file.path());
    const std::size_t size = file.content().size();
    const char* const message = "a mapped store was asked for bytes behind its end";
    CHECK_THROWS_WITH_AS(static_cast<void>(mapped.bytes(size, 1)), message, InvariantError);
    CHECK_THROWS_WITH_AS(static_cast<void>(mapped.bytes(size + 1, 0)), message, InvariantError);
    CHECK_THROWS_WITH_AS(mapped.drop(1, size), message, InvariantError);
    CHECK(mapped.bytes(size, 0).empty());
    const auto open = [](const std::filesystem::path& path) {
      return user_error_of([&] { const MappedStore other(path); });
    };
    CHECK(contains(open(file.folder() / "none"), "cannot be read: No such file or directory"));
    CHECK(contains(open(file.folder()), "expected a regular file"));
    const std::filesystem::path empty = file.folder() / "empty";
    std::ofstream(empty).flush();
    CHECK(contains(open(empty), "expected a file with content, got an empty one"));
  }
}

}  // namespace moesim::test
