// When the pages of a missing expert are committed: on arrival, or ahead of all reads of its layer.
#include "support/scenario.h"

namespace moesim::test {

TEST_SUITE("engine/admission") {
  static RunResult run_with(const char* admission, const char* overlap) {
    Scenario scenario(96);
    scenario.config["execution"]["overlap"] = overlap;
    scenario.config["execution"]["admission"] = admission;
    scenario.config["device"]["memory"]["admit_us_per_page"] = 1.0;
    return scenario.run().result;
  }

  static std::int64_t part(const RunResult& result, TimePart part) {
    return result.time->parts[static_cast<std::size_t>(part)].count();
  }

  TEST_CASE("without overlap the order changes no time") {
    const RunResult arrival = run_with("arrival", "none");
    const RunResult ahead = run_with("ahead", "none");
    REQUIRE(part(arrival, TimePart::kAdmission) > 0);
    CHECK(ahead.time->token_wall == arrival.time->token_wall);
    CHECK(ahead.time->parts == arrival.time->parts);
  }

  TEST_CASE("with overlap reads that wait for pages hide less of the committing") {
    for (const char* overlap : {"expert", "projection"}) {
      CAPTURE(overlap);
      const RunResult arrival = run_with("arrival", overlap);
      const RunResult ahead = run_with("ahead", overlap);
      CHECK(ahead.cache.hits == arrival.cache.hits);
      CHECK(part(ahead, TimePart::kAdmission) == part(arrival, TimePart::kAdmission));
      CHECK(part(ahead, TimePart::kCompute) == part(arrival, TimePart::kCompute));
      CHECK(part(ahead, TimePart::kFlashStall) > part(arrival, TimePart::kFlashStall));
    }
  }
}

}  // namespace moesim::test
