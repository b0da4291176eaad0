#include "engine/page_reclaim.h"

#include "core/rng.h"
#include "support/testing.h"

namespace moesim::test {
namespace {

constexpr ExpertKey key(std::uint32_t number) { return static_cast<ExpertKey>(number); }

void check_moves(const PageMoves& moves, std::uint64_t refaulted, std::uint64_t stolen) {
  CHECK(moves.refaulted == refaulted);
  CHECK(moves.stolen == stolen);
}

}  // namespace

TEST_SUITE("engine/page_reclaim") {
  TEST_CASE("what is stolen goes on taking a share, so that more is stolen than is over") {
    PageReclaim pages({100, 100, 100}, 0.5);
    pages.set_room(200);
    CHECK(pages.touch(key(0)).stolen == 0);
    CHECK(pages.touch(key(1)).stolen == 0);
    CHECK(pages.touch(key(2)).stolen == 200);  // all of the older two: half of them is 100 more
    CHECK(pages.resident() == 100);
    const PageMoves back = pages.touch(key(0));
    CHECK(back.refaulted == 100);
    CHECK(back.stolen == 100);
    pages.release(key(1));  // takes its compressed part along
    CHECK(pages.set_room(150).stolen == 0);
    CHECK(pages.set_room(149).stolen == 2);  // one byte too many: two, for half of them stays
    CHECK(pages.set_room(0).stolen == 98);   // there is nothing else to steal
    CHECK(pages.resident() == 0);
  }

  TEST_CASE("the least recently touched bytes are stolen, and come back when touched again") {
    PageReclaim pages({10, 20, 30});
    check_moves(pages.set_room(45), 0, 0);
    check_moves(pages.touch(key(0)), 0, 0);
    check_moves(pages.touch(key(1)), 0, 0);
    check_moves(pages.touch(key(2)), 0, 15);  // 60 wanted: all of 0, and 5 of 1
    CHECK(pages.resident(key(0)) == 0);
    CHECK(pages.resident(key(1)) == 15);
    check_moves(pages.touch(key(1)), 5, 5);  // from 2, which is older now
    CHECK(pages.resident(key(2)) == 25);
    check_moves(pages.touch(key(0)), 10, 10);
    CHECK(pages.resident(key(2)) == 15);
    CHECK(pages.resident() == 45);
  }

  TEST_CASE("what the cache lets go is free, and not stolen") {
    PageReclaim pages({10, 10, 10});
    pages.set_room(20);
    pages.touch(key(0));
    pages.touch(key(1));
    pages.release(key(0));
    CHECK(pages.resident() == 10);
    check_moves(pages.touch(key(2)), 0, 0);
    check_moves(pages.touch(key(0)), 0, 10);  // new pages: nothing comes back
    pages.release(key(1));                    // they were stolen: none are left to free
    CHECK(pages.resident() == 20);
    pages.release(key(1));
    CHECK(pages.resident() == 20);
  }

  TEST_CASE("a smaller room steals at once, and with none every touch brings everything back") {
    PageReclaim pages({10, 20});
    pages.set_room(30);
    pages.touch(key(0));
    pages.touch(key(1));
    check_moves(pages.set_room(18), 0, 12);
    check_moves(pages.set_room(30), 0, 0);
    check_moves(pages.touch(key(0)), 10, 0);
    check_moves(pages.set_room(0), 0, 28);
    check_moves(pages.touch(key(1)), 20, 20);
    check_moves(pages.touch(key(1)), 20, 20);
    pages.clear();
    check_moves(pages.touch(key(1)), 0, 20);
  }

  // A cache of the same room that evicts the least recently used hits what is still in place.
  TEST_CASE("any order of touches: bytes add up, and a list in order of touches says the same") {
    Rng rng(5);
    const std::vector<std::uint64_t> sizes{7, 3, 9, 4, 12, 5, 8};
    PageReclaim pages(sizes);
    std::vector<std::pair<std::uint32_t, std::uint64_t>> order;  // item, bytes, oldest first
    std::vector<bool> held(sizes.size(), false);
    std::uint64_t room = 0;
    for (int step = 0; step < 4000; ++step) {
      const auto item = static_cast<std::uint32_t>(rng.below(sizes.size()));
      const auto place = std::find_if(order.begin(), order.end(),
                                      [item](const auto& entry) { return entry.first == item; });
      const std::uint64_t there = place == order.end() ? 0 : place->second;
      const std::uint64_t action = rng.below(8);
      PageMoves expected;
      PageMoves got;
      if (action == 0) {
        room = rng.below(50);
        got = pages.set_room(room);
      } else {
        if (place != order.end()) order.erase(place);
        if (action == 1) {
          pages.release(key(item));
          held[item] = false;
        } else {
          expected.refaulted = held[item] ? sizes[item] - there : 0;
          held[item] = true;
          order.emplace_back(item, sizes[item]);
          got = pages.touch(key(item));
        }
      }
      std::uint64_t total = 0;
      for (const auto& entry : order) total += entry.second;
      while (total > room) {
        const std::uint64_t bytes = std::min(order.front().second, total - room);
        order.front().second -= bytes;
        total -= bytes;
        expected.stolen += bytes;
        if (order.front().second == 0) order.erase(order.begin());
      }
      REQUIRE(got.refaulted == expected.refaulted);
      REQUIRE(got.stolen == expected.stolen);
      REQUIRE(pages.resident() == total);
    }
  }
}

}  // namespace moesim::test
