#include "calibration/weight_places.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

namespace moesim::test {

TEST_SUITE("calibration/weight_places") {
  // In pages.
  constexpr std::size_t kMemory = 65536;
  constexpr std::size_t kCache = kMemory / 4;

  TEST_CASE("a product's weights lie in the memory and overlap none that a cache may hold") {
    for (const std::size_t bytes : {1U, 3U, 64U, 257U, 1024U, 4096U, 8192U, 16384U}) {
      CAPTURE(bytes);
      const std::size_t places = kMemory - bytes + 1;
      std::vector<std::size_t> recent;
      std::size_t overlaps = 0;
      std::size_t place = 0;
      for (std::size_t call = 0; call < 3 * kMemory / bytes; ++call) {
        place = next_place(place, places);
        REQUIRE(place + bytes <= kMemory);
        overlaps += static_cast<std::size_t>(std::count_if(
            recent.begin(), recent.end(),
            [&](std::size_t other) { return place < other + bytes && other < place + bytes; }));
        recent.push_back(place);
        if (recent.size() > kCache / bytes) recent.erase(recent.begin());
      }
      CHECK(overlaps == 0);
    }
  }

  TEST_CASE("one place") { CHECK(next_place(0, 1) == 0); }

  TEST_CASE("a place that fewer places no longer have leads to one that they have") {
    CHECK(next_place(1000, 10) < 10);
  }
}

}  // namespace moesim::test
