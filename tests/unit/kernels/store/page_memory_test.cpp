#include "kernels/store/page_memory.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <utility>

#include "core/errors.h"
#include "support/testing.h"

namespace moesim::test {

TEST_SUITE("kernels/store/page_memory") {
  TEST_CASE("memory begins with a huge page, is zero and can be written to its end") {
    for (const std::size_t bytes : {std::size_t{1}, std::size_t{5000}, PageMemory::kHugePage + 1}) {
      const PageMemory memory(bytes);
      CHECK(memory.size() == bytes);
      CHECK(memory.bytes().size() == bytes);
      CHECK(reinterpret_cast<std::uintptr_t>(memory.data()) % PageMemory::kHugePage == 0);
      CHECK(std::all_of(memory.bytes().begin(), memory.bytes().end(),
                        [](std::byte b) { return b == std::byte{0}; }));
      memory.bytes().back() = std::byte{1};
    }
  }

  TEST_CASE("memory can be moved, and is then another's") {
    PageMemory first(4096);
    std::byte* const data = first.data();
    first.bytes()[7] = std::byte{9};
    PageMemory second(std::move(first));
    CHECK(second.data() == data);
    PageMemory third(1);
    third = std::move(second);
    CHECK(third.data() == data);
    CHECK(third.size() == 4096);
    CHECK(third.bytes()[7] == std::byte{9});
  }

  TEST_CASE("no memory, or more than there is, is refused") {
    CHECK_THROWS_WITH_AS(PageMemory(0), "memory of no bytes was asked for", InvariantError);
    const std::size_t huge = std::numeric_limits<std::size_t>::max() / 4;
    CHECK(user_error_of([&] { const PageMemory memory(huge); }) ==
          "memory: expected 4398046511104.0 MiB to be free, got less");
  }
}

}  // namespace moesim::test
