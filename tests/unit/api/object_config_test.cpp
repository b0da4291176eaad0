// What programs hand over instead of files: a configuration that is an object, an open trace.
#include <memory>

#include "api/run.h"
#include "core/files.h"
#include "support/scenario.h"

namespace moesim::test {

namespace {

// A run's result without where its inputs came from.
Json numbers(const RunReport& report) {
  Json json = result_json(report);
  json.erase("inputs");
  json.erase("config");
  return json;
}

class CountsVisits final : public RunObserver {
 public:
  void on_visit(const Pass& /*pass*/, LayerId /*layer*/, const VisitOutcome& /*visit*/,
                TimePoint /*at*/) override {
    ++visits;
  }
  std::size_t visits = 0;
};

}  // namespace

TEST_SUITE("api/object_config") {
  TEST_CASE("an object gives what its file gives, but for the file") {
    const Scenario scenario;
    const ConfigText object = make_config(scenario.config, "config", scenario.folder(), {});
    const RunReport of_object = run(object, {});
    const RunReport of_file = scenario.run();
    CHECK(numbers(of_object) == numbers(of_file));
    REQUIRE(of_object.inputs.size() + 1 == of_file.inputs.size());
    CHECK(of_object.inputs.front().path == of_file.inputs[1].path);
  }

  TEST_CASE("overrides and mistakes of an object are those of a file") {
    const Scenario scenario;
    const ConfigText config =
        make_config(scenario.config, "config", scenario.folder(), {"/cache/capacity_experts=5"});
    CHECK(config.root.at("cache").at("capacity_experts") == 5);
    CHECK_THROWS_WITH_AS(make_config(Json::array(), "config", "", {}),
                         "config: expected an object, got []", UserError);
  }

  TEST_CASE("an open trace takes the place of the file") {
    const TraceData data = random_logits({32, 4, 16}, 4, 7);
    const Scenario scenario(data);
    const std::vector<std::byte> image = trace_image(data);
    ConfigText config = make_config(scenario.config, "config", "/no/such/folder", {});
    config.trace = std::make_shared<const Trace>(Trace::from_bytes(image, "mine"));
    config.trace_sha256 =
        sha256_of_text({reinterpret_cast<const char*>(image.data()), image.size()});
    config.root["trace"]["path"] = "mine";
    const RunReport of_trace = run(config, {});
    CHECK(numbers(of_trace) == numbers(scenario.run()));
    REQUIRE(of_trace.inputs.size() == 1);
    CHECK(of_trace.inputs[0].path == "mine");
    CHECK(of_trace.inputs[0].sha256 == sha256_of_file(scenario.folder() / "trace.safetensors"));
    CHECK(of_trace.facts.config.at("trace").at("path") == "mine");
  }

  TEST_CASE("another observer hears of every visit") {
    const Scenario scenario;
    const auto plan = scenario.plan();
    CountsVisits counts;
    ExecuteOptions options;
    options.observer = &counts;
    const RunReport report = run(scenario.text(), *plan, options);
    CHECK(counts.visits == plan->schedule().passes.size() * plan->trace().shape().layers);
    CHECK(numbers(report) == numbers(scenario.run()));
  }
}

}  // namespace moesim::test
