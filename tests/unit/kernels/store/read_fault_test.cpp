// Readers whose file answers short, late or with errors.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <mutex>

#include "core/errors.h"
#include "kernels/store/page_memory.h"
#include "kernels/store/store_reader.h"
#include "support/read_ways.h"
#include "support/small_store.h"
#include "support/testing.h"

namespace moesim::test {

TEST_SUITE("kernels/store/read_fault") {
  constexpr std::size_t kRecords = 15;

  // A store, memory that each record is read to where it lies in the file, and a file that answers
  // as the test wants.
  class Faults {
   public:
    // answers(offset, count, answer): what the reader sees; `count` is how many answers this
    // offset has had before.
    using Answers = std::function<long(std::uint64_t, int, long)>;

    Faults() : store_(file_.path()), memory_(file_.content().size()) {}

    [[nodiscard]] const SmallStore& file() const { return file_; }
    [[nodiscard]] std::size_t record_bytes() const { return store_.layout().record_bytes(); }
    [[nodiscard]] std::uint64_t offset(std::size_t record) const {
      return store_.offset(record / 5, record % 5);
    }

    // The reader's hook. What the reader is not told to have come is destroyed, because it need not
    // have come; a reader that trusts it would be found out.
    ReadFault hook(Answers answers) {
      counts_.clear();
      std::memset(memory_.data(), 0, memory_.size());
      return [this, answers = std::move(answers)](std::uint64_t offset, std::size_t, long answer) {
        const std::lock_guard lock(mutex_);
        const long seen = answers(offset, counts_[offset]++, answer);
        const auto kept = static_cast<std::size_t>(std::max(seen, 0L));
        const auto came = static_cast<std::size_t>(std::max(answer, 0L));
        if (came > kept) std::memset(memory_.data() + offset + kept, 0xEE, came - kept);
        return seen;
      };
    }

    void submit_all(StoreReader& reader) const {
      for (std::size_t i = 0; i < kRecords; ++i) {
        reader.submit(
            {offset(i), record_bytes(), memory_.data() + offset(i), static_cast<std::uint32_t>(i)});
      }
    }
    // Submits all records and waits for them; returns the messages of those that fail.
    std::vector<std::string> read_all(StoreReader& reader) const {
      submit_all(reader);
      std::vector<std::string> failures;
      while (reader.outstanding() > 0) {
        try {
          reader.wait();
        } catch (const UserError& error) {
          failures.emplace_back(error.what());
        }
      }
      return failures;
    }
    [[nodiscard]] bool is_intact(std::size_t record) const {
      return store_.is_intact(record / 5, record % 5,
                              memory_.bytes().subspan(offset(record), record_bytes()));
    }
    [[nodiscard]] std::size_t intact() const {
      std::size_t count = 0;
      for (std::size_t i = 0; i < kRecords; ++i) count += is_intact(i) ? 1 : 0;
      return count;
    }
    [[nodiscard]] int answers_at(std::uint64_t offset) const {
      const auto found = counts_.find(offset);
      return found == counts_.end() ? 0 : found->second;
    }

   private:
    SmallStore file_;
    ExpertStore store_;
    PageMemory memory_;
    std::mutex mutex_;
    std::map<std::uint64_t, int> counts_;
  };

  TEST_CASE("short reads go on where they ended, at whole pages and within them") {
    Faults faults;
    for (const ReadWay& way : read_ways(faults.file().path())) {
      for (const long largest : {4096L, 8192L, 4097L, 5000L, 8191L}) {
        CAPTURE(way.name());
        CAPTURE(largest);
        const auto reader = way.open(faults.file().path(), faults.hook([&](auto, int, long answer) {
          return std::min(answer, largest);
        }));
        CHECK(faults.read_all(*reader).empty());
        CHECK(faults.intact() == kRecords);
        // The second piece begins where the first ended, or with that page.
        const auto step = static_cast<std::uint64_t>(largest);
        const bool direct = way.access == ReadAccess::kDirect;
        CHECK(faults.answers_at(faults.offset(0) + (direct ? step - step % 4096 : step)) > 0);
      }
    }
  }

  TEST_CASE("a short read of less than a page, once, costs an attempt only where nothing is new") {
    Faults faults;
    for (const ReadWay& way : read_ways(faults.file().path())) {
      CAPTURE(way.name());
      const auto reader =
          way.open(faults.file().path(), faults.hook([](auto, int count, long answer) {
            return count == 0 ? std::min(answer, 100L) : answer;
          }));
      CHECK(faults.read_all(*reader).empty());
      CHECK(faults.intact() == kRecords);
    }
  }

  TEST_CASE("an error that passes is tried again, and the result is intact") {
    Faults faults;
    for (const ReadWay& way : read_ways(faults.file().path())) {
      for (const int error : {EIO, EINTR, EAGAIN, 0}) {  // 0: no bytes in the middle of the file
        CAPTURE(way.name());
        CAPTURE(error);
        const auto reader =
            way.open(faults.file().path(), faults.hook([&](auto, int count, long answer) {
              return count < 2 ? -long{error} : answer;
            }));
        CHECK(faults.read_all(*reader).empty());
        CHECK(faults.intact() == kRecords);
        CHECK(faults.answers_at(faults.offset(3)) == 3);
      }
    }
  }

  TEST_CASE("an error that stays is reported once, and harms nothing else") {
    Faults faults;
    const std::uint64_t bad = faults.offset(6);
    const auto message = [&](const char* reason, int attempts) {
      return fmt::format("{}: byte {}: expected {} bytes, got 0: {} (attempt {})",
                         faults.file().path().string(), bad, faults.record_bytes(), reason,
                         attempts);
    };
    for (const ReadWay& way : read_ways(faults.file().path())) {
      CAPTURE(way.name());
      const auto check = [&](long error, const std::string& expected) {
        CAPTURE(error);
        bool broken = true;
        const auto reader =
            way.open(faults.file().path(), faults.hook([&](auto offset, int, long answer) {
              return offset == bad && broken ? error : answer;
            }));
        CHECK(faults.read_all(*reader) == std::vector{expected});
        CHECK(faults.intact() == kRecords - 1);
        CHECK_FALSE(faults.is_intact(6));
        // The reader goes on.
        broken = false;
        CHECK(faults.read_all(*reader).empty());
        CHECK(faults.intact() == kRecords);
      };
      check(-EIO, message("Input/output error", 3));
      check(-EINTR, message("Interrupted system call", 3));
      check(0, message("the file ends there", 3));
      check(-EINVAL, message("Invalid argument", 1));  // Will not pass.
      check(-EBADF, message("Bad file descriptor", 1));
    }
  }

  TEST_CASE("an error after a part of a read says how far it came") {
    Faults faults;
    for (const ReadWay& way : read_ways(faults.file().path())) {
      CAPTURE(way.name());
      const auto reader =
          way.open(faults.file().path(), faults.hook([&](auto offset, int, long answer) {
            return offset == faults.offset(2)          ? std::min(answer, 8192L)
                   : offset == faults.offset(2) + 8192 ? -long{EIO}
                                                       : answer;
          }),
                   1);
      CHECK(faults.read_all(*reader) ==
            std::vector{fmt::format(
                "{}: byte {}: expected {} bytes, got 8192: Input/output error (attempt 1)",
                faults.file().path().string(), faults.offset(2), faults.record_bytes())});
      CHECK(faults.intact() == kRecords - 1);
    }
  }

  TEST_CASE("poll reports a failed read as wait does") {
    Faults faults;
    for (const ReadWay& way : read_ways(faults.file().path())) {
      CAPTURE(way.name());
      const auto reader =
          way.open(faults.file().path(), faults.hook([](auto, int, long) { return -long{EIO}; }));
      faults.submit_all(*reader);
      std::size_t failed = 0;
      std::size_t done = 0;
      while (reader->outstanding() > 0) {
        try {
          done += reader->poll().has_value() ? 1 : 0;
        } catch (const UserError&) {
          ++failed;
        }
      }
      CHECK(done == 0);
      CHECK(failed == kRecords);
    }
  }

  TEST_CASE("a reader with failing reads under way can end") {
    Faults faults;
    for (const ReadWay& way : read_ways(faults.file().path())) {
      CAPTURE(way.name());
      auto reader =
          way.open(faults.file().path(), faults.hook([](auto, int, long) { return -long{EIO}; }));
      faults.submit_all(*reader);
      reader.reset();
      CHECK(faults.intact() == 0);
    }
  }

  TEST_CASE("a file that ends before the read does is an error") {
    const SmallStore file;
    const PageMemory memory(3 * kStorePage);
    const std::uint64_t last = file.content().size() - kStorePage;
    for (const ReadWay& way : read_ways(file.path())) {
      CAPTURE(way.name());
      const auto reader = way.open(file.path());
      const auto message = [&](std::uint64_t offset) {
        reader->submit({offset, 2 * kStorePage, memory.data(), 0});
        return user_error_of([&] { reader->wait(); });
      };
      const std::string name = file.path().string();
      CHECK(
          message(last) ==
          fmt::format("{}: byte {}: expected 8192 bytes, got 4096: the file ends there (attempt 3)",
                      name, last));
      CHECK(message(last + kStorePage) ==
            fmt::format("{}: byte {}: expected 8192 bytes, got 0: the file ends there (attempt 3)",
                        name, last + kStorePage));
      CHECK(reader->outstanding() == 0);
    }
  }

  TEST_CASE("a file that ends within a page ends a direct read too") {
    const SmallStore file;
    std::filesystem::resize_file(file.path(), file.content().size() - 1000);
    const PageMemory memory(kStorePage);
    const std::uint64_t last = file.content().size() - kStorePage;
    for (const ReadWay& way : read_ways(file.path())) {
      CAPTURE(way.name());
      const auto reader = way.open(file.path());
      reader->submit({last, kStorePage, memory.data(), 0});
      CHECK(contains(user_error_of([&] { reader->wait(); }),
                     "expected 4096 bytes, got 3096: the file ends there"));
    }
  }
}

}  // namespace moesim::test
