#include "kernels/store/expert_store.h"

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <cstring>

#include "core/errors.h"
#include "support/small_store.h"
#include "support/testing.h"

namespace moesim::test {

TEST_SUITE("kernels/store/expert_store") {
  namespace fs = std::filesystem;

  std::span<const std::byte> record_of(const SmallStore& file, const ExpertStore& store,
                                       std::size_t layer, std::size_t expert) {
    return std::span(file.content())
        .subspan(store.offset(layer, expert), store.layout().record_bytes());
  }

  std::size_t files_in(const fs::path& folder) {
    return static_cast<std::size_t>(
        std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
  }

  TEST_CASE("a record is gate, up and down, each from the beginning of a page") {
    // fp16, 40 x 48: 3840 bytes, less than a page; 48 x 40 the same.
    const RecordLayout small({1, 1, 48, 40, WeightFormat::kFp16, 1});
    CHECK(small.bytes(Slice::kGate) == 3840);
    CHECK(small.padded_bytes(Slice::kGate) == 4096);
    CHECK(small.offset(Slice::kUp) == 4096);
    CHECK(small.offset(Slice::kDown) == 8192);
    CHECK(small.record_bytes() == 12288);
    CHECK(small.expert_bytes() == 3 * 3840);
    // Rows of 2 blocks: q8 68 bytes, q4 36; 64 x 64 of q8: 4352 bytes, just more than a page.
    const RecordLayout q8({1, 1, 64, 64, WeightFormat::kQ8, 1});
    CHECK(q8.bytes(Slice::kDown) == 4352);
    CHECK(q8.padded_bytes(Slice::kDown) == 8192);
    CHECK(q8.record_bytes() == 24576);
    const RecordLayout q4({1, 1, 64, 64, WeightFormat::kQ4, 1});
    CHECK(q4.bytes(Slice::kUp) == 2304);
    // Whole pages have no padding: 32 x 64 of fp16.
    const RecordLayout whole({1, 1, 64, 32, WeightFormat::kFp16, 1});
    CHECK(whole.padded_bytes(Slice::kGate) == whole.bytes(Slice::kGate));
  }

  TEST_CASE("the matrices of a record lie in it, for every format") {
    for (const WeightFormat format : kWeightFormats) {
      const StoreShape shape = small_shape(format);
      const RecordLayout layout(shape);
      const std::vector<std::byte> record(layout.record_bytes());
      const ExpertWeights expert = layout.weights(record.data());
      CHECK(expert.gate.rows == shape.intermediate);
      CHECK(expert.up.columns == shape.hidden);
      CHECK(expert.down.rows == shape.hidden);
      CHECK(expert.down.columns == shape.intermediate);
      CHECK(expert.down.format == format);
      CHECK(expert.gate.bytes() == layout.bytes(Slice::kGate));
      CHECK(expert.bytes() == layout.expert_bytes());
      CHECK(expert.gate.data == record.data());
      CHECK(expert.up.data == record.data() + layout.offset(Slice::kUp));
      CHECK(expert.down.data + expert.down.bytes() <= record.data() + record.size());
    }
  }

  TEST_CASE("a store is what was asked for, intact, and a flipped bit shows") {
    for (const WeightFormat format : kWeightFormats) {
      CAPTURE(weight_format_name(format));
      const SmallStore file(small_shape(format));
      const ExpertStore store(file.path());
      CHECK(store.path() == file.path());
      CHECK(store.shape() == small_shape(format));
      CHECK(file.content().size() == store_bytes(store.shape()));
      CHECK(files_in(file.folder()) == 1);
      for (std::size_t layer = 0; layer < 3; ++layer) {
        for (std::size_t expert = 0; expert < 5; ++expert) {
          CHECK(store.offset(layer, expert) % kStorePage == 0);
          CHECK(store.is_intact(layer, expert, record_of(file, store, layer, expert)));
        }
      }
      const auto record = record_of(file, store, 1, 2);
      CHECK_FALSE(store.is_intact(1, 3, record));
      CHECK_FALSE(store.is_intact(1, 2, record.first(record.size() - 1)));
      std::vector<std::byte> damaged(record.begin(), record.end());
      for (const std::size_t at : {std::size_t{0}, record.size() / 2, record.size() - 1}) {
        damaged[at] ^= std::byte{4};
        CHECK_FALSE(store.is_intact(1, 2, damaged));
        damaged[at] ^= std::byte{4};
      }
      CHECK(store.is_intact(1, 2, damaged));
    }
  }

  TEST_CASE("the bytes depend on the seed alone, and no two experts are alike") {
    StoreShape shape = small_shape();
    const SmallStore file(shape);
    CHECK(SmallStore(shape).content() == file.content());
    const ExpertStore store(file.path());
    // On every platform.
    CHECK(fmt::format("{:016x}", store.checksum(0, 0)) == "068ed4975bc3ff44");
    std::vector<std::uint64_t> checksums;
    const auto collect = [&](const ExpertStore& from) {
      for (std::size_t layer = 0; layer < shape.layers; ++layer) {
        for (std::size_t expert = 0; expert < shape.experts; ++expert) {
          checksums.push_back(from.checksum(layer, expert));
        }
      }
    };
    collect(store);
    shape.seed = 8;
    const SmallStore other(shape);
    collect(ExpertStore(other.path()));
    std::sort(checksums.begin(), checksums.end());
    CHECK(std::adjacent_find(checksums.begin(), checksums.end()) == checksums.end());
    CHECK(checksums.size() == 30);
    // An expert does not depend on how many others there are.
    shape = small_shape();
    shape.layers = 1;
    shape.experts = 2;
    const SmallStore fewer(shape);
    CHECK(ExpertStore(fewer.path()).checksum(0, 1) == store.checksum(0, 1));
  }

  TEST_CASE("progress ends with all bytes") {
    const TemporaryFolder folder;
    std::uint64_t last = 0;
    std::uint64_t in_all = 0;
    write_expert_store(folder.path() / "s", small_shape(),
                       [&](std::uint64_t done, std::uint64_t all) {
                         CHECK(done > last);
                         last = done;
                         in_all = all;
                       });
    CHECK(last == store_bytes(small_shape()));
    CHECK(in_all == last);
  }

  void overwrite(const fs::path& path, std::size_t at, std::byte value) {
    std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(static_cast<std::streamoff>(at));
    file.put(std::to_integer<char>(value));
  }

  TEST_CASE("no byte of the header can change without being noticed") {
    const SmallStore file({1, 2, 8, 8, WeightFormat::kQ4, 1});
    for (std::size_t at = 0; at < kStorePage; at += at < 160 ? 1 : 97) {
      CAPTURE(at);
      for (const int bit : {1, 0x80}) {
        overwrite(file.path(), at, file.content()[at] ^ static_cast<std::byte>(bit));
        CHECK(contains(user_error_of([&] { const ExpertStore store(file.path()); }),
                       file.path().string() + ": "));
      }
      overwrite(file.path(), at, file.content()[at]);
    }
    CHECK(ExpertStore(file.path()).shape().hidden == 8);
  }

  TEST_CASE("what is no store, is damaged or cut off says so") {
    const SmallStore file({1, 2, 8, 8, WeightFormat::kQ4, 1});
    const std::string name = file.path().string();
    const auto message = [&] {
      return user_error_of([&] { const ExpertStore store(file.path()); });
    };

    overwrite(file.path(), 0, std::byte{'X'});
    CHECK(message() ==
          name + ": expected an expert store (its first bytes are MOESTORE), got another file");
    overwrite(file.path(), 0, std::byte{'M'});
    overwrite(file.path(), 8, std::byte{1});
    CHECK(message() == name + ": expected an expert store of version 2, got 1");
    overwrite(file.path(), 8, std::byte{2});
    overwrite(file.path(), 32, std::byte{9});  // hidden; the same record size
    CHECK(contains(message(), "the header of the expert store is damaged: expected checksum "));
    overwrite(file.path(), 32, std::byte{0});
    CHECK(
        contains(message(),
                 "damaged: expected sizes that fit each other, got 1 layers, 2 experts, hidden 0"));
    overwrite(file.path(), 32, std::byte{8});

    const std::size_t whole = file.content().size();
    fs::resize_file(file.path(), whole + 1);
    CHECK(message() ==
          fmt::format("{}: expected an expert store of {} bytes, got {}: it is too long", name,
                      whole, whole + 1));
    for (const std::size_t length :
         {whole - 1, std::size_t{4096}, std::size_t{4095}, std::size_t{128}}) {
      fs::resize_file(file.path(), length);
      CHECK(message() ==
            fmt::format("{}: expected an expert store of {} bytes, got {}: it is cut off", name,
                        whole, length));
    }
    for (const std::size_t length : {127U, 8U, 0U}) {
      fs::resize_file(file.path(), length);
      CHECK(contains(message(), "got another file"));
    }
    fs::remove(file.path());
    CHECK(message() == name + ": expected an expert store, got nothing: no such file");
    CHECK(contains(user_error_of([&] { const ExpertStore store(file.folder()); }),
                   "got no regular file"));
  }

  TEST_CASE("an expert or a shape that cannot be is a defect") {
    const SmallStore file;
    const ExpertStore store(file.path());
    CHECK_THROWS_AS(static_cast<void>(store.offset(3, 0)), InvariantError);
    CHECK_THROWS_AS(static_cast<void>(store.checksum(0, 5)), InvariantError);
    const char* const message = "a store has a size of 0 or one that is too large";
    CHECK_THROWS_WITH_AS(RecordLayout({0, 1, 1, 1}), message, InvariantError);
    CHECK_THROWS_WITH_AS(RecordLayout({1, 1, 0, 1}), message, InvariantError);
    CHECK_THROWS_WITH_AS(RecordLayout({1, 65537, 1, 1}), message, InvariantError);
    CHECK_THROWS_WITH_AS(RecordLayout({1, 1, 1, (std::size_t{1} << 24) + 1}), message,
                         InvariantError);
    CHECK_THROWS_WITH_AS(store_bytes({65536, 65536, 1U << 24, 1U << 24}), "a store is too large",
                         InvariantError);
  }

  // Files of this process cannot grow beyond the limit while it lives: what a full disk does, but
  // for the reason that is given.
  class SmallestFiles {
   public:
    SmallestFiles() : signal_(std::signal(SIGXFSZ, SIG_IGN)) { getrlimit(RLIMIT_FSIZE, &before_); }
    ~SmallestFiles() {
      setrlimit(RLIMIT_FSIZE, &before_);
      static_cast<void>(std::signal(SIGXFSZ, signal_));
    }
    SmallestFiles(const SmallestFiles&) = delete;
    SmallestFiles& operator=(const SmallestFiles&) = delete;
    void limit(rlim_t bytes) const {
      const rlimit now{bytes, before_.rlim_max};
      setrlimit(RLIMIT_FSIZE, &now);
    }

   private:
    void (*signal_)(int);
    rlimit before_{};
  };

  TEST_CASE("a disk that fills up leaves what was there, and nothing else") {
    const SmallStore file;
    StoreShape other = small_shape();
    other.seed = 99;
    const std::string message =
        fmt::format("{}: an expert store of {:.1f} MiB cannot be written: File too large",
                    file.path().string(), static_cast<double>(store_bytes(other)) / 0x1p20);
    const auto check_write = [&](rlim_t at_first, rlim_t later) {
      const SmallestFiles files;
      files.limit(at_first);
      const std::string got = user_error_of(
          [&] { write_expert_store(file.path(), other, [&](auto, auto) { files.limit(later); }); });
      files.limit(RLIM_INFINITY);
      CHECK(got == message);
      CHECK(files_in(file.folder()) == 1);
      CHECK(content_of(file.path()) == file.content());
    };
    check_write(100 * 1000, 100 * 1000);  // Already when space is asked for.
    check_write(store_bytes(other), 0);   // Near the end.
    CHECK(ExpertStore(file.path()).shape().seed == 7);
    write_expert_store(file.path(), other);  // And then there is space again.
    CHECK(ExpertStore(file.path()).shape().seed == 99);
  }

  TEST_CASE("a store that the disk has no space for is not begun") {
    const TemporaryFolder folder;
    const StoreShape huge{1000, 1000, 1U << 20, 1U << 10};  // 5.6 EiB
    const std::string message =
        user_error_of([&] { write_expert_store(folder.path() / "s", huge); });
    CHECK(contains(message, fmt::format("s: expected {:.1f} MiB to be free on the disk, got ",
                                        static_cast<double>(store_bytes(huge)) / 0x1p20)));
    CHECK(files_in(folder.path()) == 0);
  }

  TEST_CASE("a place that cannot be written says why, and a failure on the way cleans up") {
    const TemporaryFolder folder;
    const auto message = [&](const fs::path& path) {
      return user_error_of([&] { write_expert_store(path, small_shape()); });
    };
    CHECK(contains(message(folder.path() / "none" / "s"),
                   "cannot be written: No such file or directory"));
    CHECK(contains(message(folder.path()),
                   "expected a place for an expert store, got no regular file"));
    const fs::path long_name = folder.path() / std::string(255, 'x');
    CHECK(contains(message(long_name), "cannot be written: File name too long"));
    CHECK_THROWS_AS(write_expert_store(folder.path() / "s", small_shape(),
                                       [](auto, auto) { throw UserError("stopped"); }),
                    UserError);
    CHECK(files_in(folder.path()) == 0);
  }

  TEST_CASE("a link is followed") {
    const SmallStore file;
    const fs::path link = file.folder() / "link";
    fs::create_symlink(file.path(), link);
    StoreShape other = small_shape();
    other.seed = 99;
    write_expert_store(link, other);
    CHECK(fs::is_symlink(link));
    CHECK(ExpertStore(file.path()).shape().seed == 99);
  }
}

}  // namespace moesim::test
