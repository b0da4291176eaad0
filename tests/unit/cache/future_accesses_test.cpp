#include "cache/future_accesses.h"

#include "support/testing.h"

namespace moesim::test {
namespace {

constexpr ExpertKey key(std::uint32_t value) { return static_cast<ExpertKey>(value); }

FutureAccesses small_future() {
  FutureAccesses future(4);
  future.add_event(std::vector{key(2), key(0)});
  future.add_event(std::vector{key(1)});
  future.add_event(std::vector{key(0), key(1)});
  future.finish();
  return future;
}

}  // namespace

TEST_SUITE("future accesses") {
  TEST_CASE("events keep their order and uses are grouped by expert") {
    const FutureAccesses future = small_future();
    CHECK(future.events() == 3);
    CHECK(future.keys() == 4);
    CHECK(future.event(0)[0] == key(2));
    CHECK(future.event(0)[1] == key(0));
    REQUIRE(future.uses(key(0)).size() == 2);
    CHECK(future.uses(key(0))[0] == 0);
    CHECK(future.uses(key(0))[1] == 2);
    CHECK(future.uses(key(3)).empty());
  }

  TEST_CASE("the next use moves on with the events") {
    const FutureAccesses future = small_future();
    NextUse next(future);
    CHECK(next.of(key(0)) == 0);
    CHECK(next.of(key(3)) == FutureAccesses::kNever);
    next.advance(key(0), 0);
    CHECK(next.of(key(0)) == 2);
    next.advance(key(0), 1);
    CHECK(next.of(key(0)) == 2);
    next.advance(key(0), 2);
    CHECK(next.of(key(0)) == FutureAccesses::kNever);
  }

  TEST_CASE("an expert out of range is a defect") {
    FutureAccesses future(1);
    future.add_event(std::vector{key(1)});
    CHECK_THROWS_WITH_AS(future.finish(), "a future access names an expert out of range",
                         InvariantError);
  }
}

}  // namespace moesim::test
