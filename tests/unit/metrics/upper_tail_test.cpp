#include "metrics/upper_tail.h"

#include <algorithm>
#include <vector>

#include "core/rng.h"
#include "support/allocation_counter.h"
#include "support/testing.h"

namespace moesim::test {

TEST_SUITE("metrics/upper_tail") {
  TEST_CASE("p95 is element ceil(0.95 n) of the sorted values") {
    Rng rng(3);
    for (std::size_t n = 1; n <= 130; ++n) {
      // Longer than what comes, equal values among them.
      UpperTail tail(n + rng.below(200));
      std::vector<double> values(n);
      for (double& value : values) {
        value = static_cast<double>(rng.below(40)) - 20;
        tail.add(value);
      }
      std::sort(values.begin(), values.end());
      CAPTURE(n);
      CHECK(tail.p95() == values[(95 * n + 99) / 100 - 1]);
    }
  }

  TEST_CASE("a cleared tail has forgotten everything") {
    UpperTail tail(10);
    tail.add(7);
    tail.clear();
    tail.add(1);
    CHECK(tail.p95() == 1);
  }

  TEST_CASE("adding takes no memory") {
    UpperTail tail(1000);
    const std::uint64_t before = allocations();
    for (int i = 0; i < 1000; ++i) tail.add(i);
    CHECK(allocations() == before);
  }

  TEST_CASE("more values than announced, and none at all, are defects") {
    UpperTail tail(19);
    CHECK_THROWS_AS(static_cast<void>(tail.p95()), InvariantError);
    for (int i = 0; i < 20; ++i) tail.add(i);
    CHECK_THROWS_AS(static_cast<void>(tail.p95()), InvariantError);
  }
}

}  // namespace moesim::test
