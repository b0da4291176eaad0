#include "calibration/core_split.h"

#include <set>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif

#include "support/testing.h"

namespace moesim {

#if defined(__linux__)
namespace {

std::set<int> my_cores() {
  cpu_set_t cores;
  std::set<int> numbers;
  if (sched_getaffinity(0, sizeof cores, &cores) != 0) return numbers;
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(static_cast<std::size_t>(core), &cores)) numbers.insert(core);
  }
  return numbers;
}

}  // namespace

TEST_SUITE("calibration/core_split") {
  TEST_CASE("who computes and who reads have cores apart, and all again afterwards") {
    const std::set<int> all = my_cores();
    {
      const CoreSplit split(1);
      REQUIRE(split.is_split() == (all.size() > 1));
      split.compute_from_here();
      const std::set<int> computing = my_cores();
      split.read_from_here();
      std::set<int> reading;
      std::thread([&] { reading = my_cores(); }).join();
      if (split.is_split()) {
        CHECK(computing.size() == 1);
        CHECK(computing.size() + reading.size() == all.size());
        for (const int core : reading) CHECK(computing.count(core) == 0);
      }
    }
    CHECK(my_cores() == all);
  }

  TEST_CASE("nothing is split where no core would be left for lanes") {
    const std::set<int> all = my_cores();
    const CoreSplit split(all.size());
    CHECK_FALSE(split.is_split());
    split.read_from_here();
    CHECK(my_cores() == all);
  }
}
#endif

}  // namespace moesim
