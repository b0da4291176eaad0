#include "kernels/store/expert_arena.h"

#include <doctest/doctest.h>

#include "core/errors.h"
#include "kernels/store/expert_store.h"

namespace moesim::test {

TEST_SUITE("kernels/store/expert_arena") {
  constexpr ExpertKey kA{0};
  constexpr ExpertKey kB{3};
  constexpr ExpertKey kC{5};

  TEST_CASE("experts have slots of their own, of whole pages, until they are released") {
    ExpertArena arena(2, 3 * kStorePage, 6);
    CHECK(arena.slots() == 2);
    CHECK(arena.find(kA) == nullptr);
    std::byte* const a = arena.place(kA);
    std::byte* const b = arena.place(kB);
    CHECK(arena.free_slots() == 0);
    CHECK(arena.find(kA) == a);
    CHECK(arena.find(kB) == b);
    CHECK(reinterpret_cast<std::uintptr_t>(a) % kStorePage == 0);
    CHECK(std::abs(b - a) == 3 * static_cast<std::ptrdiff_t>(kStorePage));
    arena.release(kA);
    CHECK(arena.find(kA) == nullptr);
    CHECK(arena.find(kB) == b);
    CHECK(arena.place(kC) == a);
  }

  TEST_CASE("the slot freed last is given first") {
    ExpertArena arena(3, kStorePage, 6);
    std::byte* const a = arena.place(kA);
    std::byte* const b = arena.place(kB);
    arena.release(kA);
    arena.release(kB);
    CHECK(arena.place(kC) == b);
    CHECK(arena.place(kA) == a);
    CHECK(arena.free_slots() == 1);
  }

  TEST_CASE("what the cache must not ask for is a defect") {
    ExpertArena arena(1, kStorePage, 6);
    arena.place(kA);
    CHECK_THROWS_WITH_AS(arena.place(kA), "an expert that has a slot was given another",
                         InvariantError);
    CHECK_THROWS_WITH_AS(arena.place(kB), "an arena without a free slot was asked for one",
                         InvariantError);
    CHECK_THROWS_WITH_AS(arena.release(kB), "an expert without a slot was to lose it",
                         InvariantError);
    CHECK_THROWS_WITH_AS(static_cast<void>(arena.find(ExpertKey{6})),
                         "an arena was asked for an expert that no layer has", InvariantError);
    CHECK_THROWS_WITH_AS(ExpertArena(1, 100, 1), "a slot is not of whole pages", InvariantError);
    CHECK_THROWS_AS(ExpertArena(0, kStorePage, 1), InvariantError);
  }
}

}  // namespace moesim::test
