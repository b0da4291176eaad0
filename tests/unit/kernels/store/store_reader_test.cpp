// What every reader does with a file that answers as it should.
#include "kernels/store/store_reader.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <thread>

#include "core/errors.h"
#include "kernels/store/page_memory.h"
#include "support/read_ways.h"
#include "support/small_store.h"
#include "support/testing.h"

namespace moesim::test {

TEST_SUITE("kernels/store/store_reader") {
  constexpr std::size_t kRecords = 15;

  // Memory that each record is read to where it lies in the file.
  struct Target {
    explicit Target(const SmallStore& file) : store(file.path()), memory(file.content().size()) {}

    [[nodiscard]] StoreRead read(std::size_t record) const {
      const std::uint64_t offset = store.offset(record / 5, record % 5);
      return {offset, store.layout().record_bytes(), memory.data() + offset,
              static_cast<std::uint32_t>(record)};
    }
    [[nodiscard]] std::span<std::byte> bytes(std::size_t record) const {
      return {read(record).target, store.layout().record_bytes()};
    }
    [[nodiscard]] bool is_intact(std::size_t record) const {
      return store.is_intact(record / 5, record % 5, bytes(record));
    }
    [[nodiscard]] bool is_untouched(std::size_t record) const {
      const auto all = bytes(record);
      return std::all_of(all.begin(), all.end(), [](std::byte b) { return b == std::byte{0}; });
    }

    ExpertStore store;
    PageMemory memory;
  };

  TEST_CASE("every record that is read, in any way, is the file's") {
    const SmallStore file;
    for (const ReadWay& way : read_ways(file.path())) {
      CAPTURE(way.name());
      const Target target(file);
      const auto reader = way.open(file.path());
      CHECK(reader->poll() == std::nullopt);
      for (std::size_t i = 0; i < kRecords; ++i) reader->submit(target.read(i));
      CHECK(reader->outstanding() == kRecords);
      std::vector<std::uint32_t> tags;
      while (reader->outstanding() > 0) {
        tags.push_back(reader->wait());
        CHECK(target.is_intact(tags.back()));  // Already when it is reported.
      }
      CHECK(reader->poll() == std::nullopt);
      if (way.at_once == 1) CHECK(std::is_sorted(tags.begin(), tags.end()));
      std::sort(tags.begin(), tags.end());
      CHECK(tags.size() == kRecords);
      for (std::size_t i = 0; i < tags.size(); ++i) CHECK(tags[i] == i);
    }
  }

  TEST_CASE("far more reads than lanes, in turns, with poll") {
    const SmallStore file;
    for (const ReadWay& way : read_ways(file.path())) {
      CAPTURE(way.name());
      const Target target(file);
      const auto reader = way.open(file.path());
      std::size_t done = 0;
      for (int turn = 0; turn < 10; ++turn) {
        std::memset(target.memory.data(), 0, target.memory.size());
        for (std::size_t i = 0; i < kRecords; ++i) {
          reader->submit(target.read(i));
          if (reader->poll().has_value()) ++done;
        }
        while (reader->outstanding() > 0) {
          if (reader->poll().has_value()) {
            ++done;
          } else {
            std::this_thread::yield();
          }
        }
        for (std::size_t i = 0; i < kRecords; ++i) CHECK(target.is_intact(i));
      }
      CHECK(done == 10 * kRecords);
    }
  }

  TEST_CASE("a buffered read may have any offset, length and target") {
    const SmallStore file;
    for (const ReadWay& way : read_ways(file.path())) {
      if (way.access == ReadAccess::kDirect) continue;
      CAPTURE(way.name());
      std::vector<std::byte> bytes(5003);
      const auto reader = way.open(file.path());
      reader->submit({4099, 5001, bytes.data() + 1, 9});
      CHECK(reader->wait() == 9);
      CHECK(std::equal(bytes.begin() + 1, bytes.end() - 1, file.content().begin() + 4099));
      CHECK(bytes.front() == std::byte{0});
      CHECK(bytes.back() == std::byte{0});
    }
  }

  TEST_CASE("a reader that ends leaves each target whole or untouched, and never writes again") {
    const SmallStore file;
    for (const ReadWay& way : read_ways(file.path())) {
      CAPTURE(way.name());
      const Target target(file);
      const auto slow = [](std::uint64_t, std::size_t, long answer) {
        // So that reads are still waiting when the reader ends; what is checked holds without.
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
        return answer;
      };
      auto reader = way.open(file.path(), slow);
      for (std::size_t i = 0; i < kRecords; ++i) reader->submit(target.read(i));
      reader.reset();
      for (std::size_t i = 0; i < kRecords; ++i) {
        CHECK((target.is_intact(i) || target.is_untouched(i)));
        // What has begun is finished: with io_uring as much as the queue holds, in order.
        if (way.uring) CHECK(target.is_intact(i) == (i < way.at_once));
      }
      std::memset(target.memory.data(), 0x5A, target.memory.size());
      const Target again(file);
      const auto other = way.open(file.path());
      for (std::size_t i = 0; i < kRecords; ++i) other->submit(again.read(i));
      while (other->outstanding() > 0) other->wait();
      const auto all = target.memory.bytes();
      CHECK(std::all_of(all.begin(), all.end(), [](std::byte b) { return b == std::byte{0x5A}; }));
    }
  }

  TEST_CASE("a reader without reads can end at once") {
    const SmallStore file;
    for (const ReadWay& way : read_ways(file.path())) {
      for (int i = 0; i < 20; ++i) CHECK(way.open(file.path())->outstanding() == 0);
    }
  }

  TEST_CASE("what a caller must not do is a defect") {
    const SmallStore file;
    const Target target(file);
    for (const ReadWay& way : read_ways(file.path())) {
      CAPTURE(way.name());
      const auto reader = way.open(file.path());
      const auto refuses = [&](StoreRead read, const char* message) {
        CHECK_THROWS_WITH_AS(reader->submit(read), message, InvariantError);
      };
      const char* const nothing = "a read of no bytes or to nowhere was submitted";
      refuses({0, 0, target.memory.data(), 0}, nothing);
      refuses({0, 4096, nullptr, 0}, nothing);
      if (way.access == ReadAccess::kDirect) {
        const char* const partial = "a direct read was submitted that is not of whole pages";
        refuses({1, 4096, target.memory.data(), 0}, partial);
        refuses({0, 4095, target.memory.data(), 0}, partial);
        refuses({0, 4096, target.memory.data() + 512, 0}, partial);
      }
      CHECK(reader->outstanding() == 0);
      CHECK_THROWS_WITH_AS(reader->wait(), "nothing was submitted that could be waited for",
                           InvariantError);
    }
    CHECK_THROWS_WITH_AS(make_lane_reader(file.path(), 0, {ReadAccess::kBuffered}),
                         "a reader without lanes was asked for", InvariantError);
  }
}

}  // namespace moesim::test
