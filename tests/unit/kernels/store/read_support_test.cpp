// What a system lacks for reads, and how it says so.
#include <doctest/doctest.h>
#ifdef __linux__
#include <linux/filter.h>
#include <linux/magic.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>
#endif

#include <array>
#include <cerrno>
#include <fstream>
#include <thread>

#include "core/errors.h"
#include "kernels/store/store_reader.h"
#include "support/read_ways.h"
#include "support/small_store.h"
#include "support/testing.h"

namespace moesim::test {

TEST_SUITE("kernels/store/read_support") {
  namespace fs = std::filesystem;

  TEST_CASE("support is there without a reason, or lacks with one that readers repeat") {
    const SmallStore file;
    const ReadSupport uring = uring_support();
    CHECK(uring.available == uring.reason.empty());
    if (!uring.available) {
      CHECK(user_error_of([&] { make_uring_reader(file.path(), 1, {ReadAccess::kBuffered}); }) ==
            "io_uring: " + uring.reason);
    }
    const ReadSupport direct = direct_support(file.path());
    CHECK(direct.available == direct.reason.empty());
    if (!direct.available) {
      CHECK(contains(user_error_of([&] { make_lane_reader(file.path(), 1); }),
                     "expected a file that can be read directly: "));
    }
  }

  TEST_CASE("a file that cannot be opened is refused by every reader") {
    const SmallStore file;
    for (const ReadWay& way : read_ways(file.path())) {
      CAPTURE(way.name());
      const fs::path none = file.folder() / "none";
      CHECK(user_error_of([&] { way.open(none); }) ==
            none.string() + ": cannot be read: No such file or directory");
      CHECK(user_error_of([&] { way.open(file.folder()); }) ==
            file.folder().string() + ": expected a regular file");
    }
    const ReadSupport direct = direct_support(file.folder() / "none");
    CHECK_FALSE(direct.available);
    CHECK(contains(direct.reason, "none: No such file or directory"));
  }

  TEST_CASE("a queue that the system does not give is refused") {
    const SmallStore file;
    if (const ReadSupport uring = uring_support(); !uring.available) {
      MESSAGE("skipped: ", uring.reason);
      return;
    }
    const std::string message =
        user_error_of([&] { make_uring_reader(file.path(), 1'000'000, {ReadAccess::kBuffered}); });
    CHECK(contains(message, "io_uring: expected a queue of 1000000 reads: the system refuses"));
    CHECK_THROWS_WITH_AS(make_uring_reader(file.path(), 0, {ReadAccess::kBuffered}),
                         "a reader of depth 0 was asked for", InvariantError);
  }

#ifdef __linux__
  TEST_CASE("files in memory have no direct reads, and buffered ones work there") {
    const fs::path path = "/dev/shm/moesim-test-" + std::to_string(getpid());
    std::ofstream(path) << std::string(8192, 'x') << std::flush;
    struct statfs system {};
    if (statfs(path.c_str(), &system) != 0 || system.f_type != TMPFS_MAGIC) {
      fs::remove(path);
      MESSAGE("skipped: no tmpfs that can be written at /dev/shm");
      return;
    }
    const ReadSupport direct = direct_support(path);
    const std::string message = user_error_of([&] { make_lane_reader(path, 1); });
    std::vector<std::byte> bytes(8192);
    const auto reader = make_lane_reader(path, 1, {ReadAccess::kBuffered});
    reader->submit({0, bytes.size(), bytes.data(), 4});
    CHECK(reader->wait() == 4);
    fs::remove(path);
    CHECK(bytes.back() == std::byte{'x'});
    CHECK_FALSE(direct.available);
    CHECK(contains(direct.reason, path.string() + ": its file system "));
    CHECK(contains(
        message, path.string() + ": expected a file that can be read directly: its file system "));
  }

  // Makes io_uring_setup fail with EPERM for the calling thread, for good. False where the system
  // does not allow that.
  bool forbid_uring() {
    std::array<sock_filter, 4> program{{
        {BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(seccomp_data, nr)},
        {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, __NR_io_uring_setup},
        {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | EPERM},
        {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
    }};
    const sock_fprog filter{program.size(), program.data()};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
  }

  TEST_CASE("a kernel that forbids io_uring is named as the reason") {
    if (const ReadSupport uring = uring_support(); !uring.available) {
      MESSAGE("skipped: ", uring.reason);
      return;
    }
    const SmallStore file;
    bool forbidden = false;
    ReadSupport support;
    std::string message;
    std::thread([&] {
      forbidden = forbid_uring();
      if (!forbidden) return;
      support = uring_support();
      message = user_error_of([&] { make_uring_reader(file.path(), 1, {ReadAccess::kBuffered}); });
    }).join();
    if (!forbidden) {
      MESSAGE("skipped: the system lets no thread forbid itself a system call");
      return;
    }
    const std::string reason = "the system refuses io_uring: Operation not permitted (errno " +
                               std::to_string(EPERM) + ")";
    CHECK_FALSE(support.available);
    CHECK(support.reason == reason);
    CHECK(message == "io_uring: " + reason);
    CHECK(uring_support().available);  // Of other threads.
  }
#endif
}

}  // namespace moesim::test
