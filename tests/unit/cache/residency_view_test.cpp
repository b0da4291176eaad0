#include "cache/residency_view.h"

#include <array>

#include "support/testing.h"

namespace moesim::test {

TEST_SUITE("residency view") {
  TEST_CASE("an expert in flight is not resident") {
    const std::array states = {Residency::kAbsent, Residency::kInFlight, Residency::kResident};
    const ResidencyView view(LayerId{3}, states, nullptr);
    CHECK(view.layer() == LayerId{3});
    CHECK(!view.resident(ExpertId{0}));
    CHECK(!view.resident(ExpertId{1}));
    CHECK(view.in_flight(ExpertId{1}));
    CHECK(view.resident(ExpertId{2}));
    CHECK(!view.in_flight(ExpertId{2}));
  }

  TEST_CASE("a view without a policy has no scores") {
    const std::array states = {Residency::kResident};
    const ResidencyView view(LayerId{0}, states, nullptr);
    CHECK_THROWS_WITH_AS(static_cast<void>(view.eviction_score(ExpertId{0})),
                         "this view of residency has no eviction policy", InvariantError);
  }
}

}  // namespace moesim::test
