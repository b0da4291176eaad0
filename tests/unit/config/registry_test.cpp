#include "config/registry.h"

#include "support/testing.h"

namespace moesim::test {

namespace {

struct Speaker {
  using Context = int;
  explicit Speaker(std::string text) : says(std::move(text)) {}
  std::string says;
};

Registry<Speaker>::Entry entry(const std::string& says) {
  return {About("speaks", "own"),
          {{"volume", 1, "how loud", "number", "[0, 1]", "own"}},
          [says](Section& section, const int& /*context*/) {
            section.number("volume");
            return std::make_unique<Speaker>(says);
          }};
}

}  // namespace

TEST_SUITE("config/registry") {
  TEST_CASE("a policy may take the place of another while the program runs") {
    Registry<Speaker> registry;
    registry.replace("voice", entry("first"));
    const Section section(Json{{"policy", "voice"}}, "run.json", "");
    CHECK(registry.make(section, 0)->says == "first");
    registry.replace("voice", entry("second"));
    CHECK(registry.make(section, 0)->says == "second");
    CHECK(registry.names() == std::vector<std::string>{"voice"});
    CHECK_THROWS_AS(registry.add("voice", entry("third")), InvariantError);
  }
}

}  // namespace moesim::test
