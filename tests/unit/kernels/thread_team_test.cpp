#include "kernels/thread_team.h"

#include <doctest/doctest.h>

#include <numeric>
#include <vector>

#include "core/errors.h"

namespace moesim::test {

TEST_SUITE("kernels/thread_team") {
  // Writes all of `marks` in a job and checks that each was written once.
  void mark_all(ThreadTeam & team, std::vector<int> & marks) {
    RowDealer dealer(marks.size(), 3);
    team.run([&] {
      for (auto range = dealer.next(); !range.empty(); range = dealer.next()) {
        for (std::size_t i = range.first; i < range.last; ++i) ++marks[i];
      }
    });
  }

  TEST_CASE("thousands of jobs are each done once and whole, with more threads than cores too") {
    for (const std::size_t threads : {1U, 2U, 3U, 4U, 9U}) {
      CAPTURE(threads);
      ThreadTeam team(threads);
      CHECK(team.size() == threads);
      std::vector<int> marks(50);
      const int jobs = threads > 4 ? 200 : 2000;
      bool whole = true;
      for (int job = 1; job <= jobs; ++job) {
        mark_all(team, marks);
        whole = whole && marks == std::vector<int>(marks.size(), job);
      }
      CHECK(whole);
    }
  }

  TEST_CASE("all threads come to a job that waits for them, awake or asleep") {
    ThreadTeam team(4);
    for (int job = 0; job < 20; ++job) {
      if (job % 5 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
      std::atomic<std::size_t> joined{0};
      team.run([&] {
        ++joined;
        while (joined.load() < team.size()) std::this_thread::yield();
      });
      CHECK(joined.load() == 4);
    }
  }

  TEST_CASE("a job does not wait for a thread that has not come") {
    // With one thread's work being nothing, jobs end before sleepers wake; later jobs still get
    // them.
    ThreadTeam team(3);
    std::atomic<int> calls{0};
    for (int job = 0; job < 1000; ++job) team.run([&] { ++calls; });
    CHECK(calls.load() >= 1000);
    CHECK(calls.load() <= 3000);
  }

  TEST_CASE("a team can end at once, and needs 1 to 255 threads") {
    for (int i = 0; i < 50; ++i) ThreadTeam team(4);
    const char* const message = "a team has 1 to 255 threads";
    CHECK_THROWS_WITH_AS(ThreadTeam(0), message, InvariantError);
    CHECK_THROWS_WITH_AS(ThreadTeam(256), message, InvariantError);
  }

  TEST_CASE("rows are dealt out in order, each once") {
    RowDealer dealer(7, 3);
    std::vector<std::size_t> edges;
    for (auto range = dealer.next(); !range.empty(); range = dealer.next()) {
      edges.push_back(range.first);
      edges.push_back(range.last);
    }
    CHECK(edges == std::vector<std::size_t>{0, 3, 3, 6, 6, 7});
    CHECK(dealer.next().empty());
    CHECK(RowDealer(0, 1).next().empty());
  }
}

}  // namespace moesim::test
