// What holds of every run, however reads reach the device.
#include "metrics/run_metrics.h"
#include "support/allocation_counter.h"
#include "support/scenario.h"

namespace moesim::test {
namespace {

struct Way {
  const char* name;
  Json flash;  // merged into the device's
  Json clock = nullptr;
};

std::vector<Way> ways() {
  const Json curve = {{4, 0.05}, {512, 0.5}};
  return {{"plain", Json::object()},
          {"bounced", {{"bounce_gbps", 0.8}}},
          {"split", {{"max_cmd_kib", 64}, {"copy_gbps", 4}}},
          {"async", {{"submission", "async"}, {"max_cmd_kib", 64}, {"cycles_per_cmd", 12000}}, 2.0},
          {"async, bounced",
           {{"submission", "async"}, {"cycles_per_cmd", 60000}, {"bounce_gbps", 0.8}},
           2.0},
          {"curve",
           {{"small_read_curve_kib_gbps", curve},
            {"range_derate", {{1, 1.0}, {8, 0.5}}},
            {"multi_issuer_derate", 0.6}}}};
}

void apply(const Way& way, Scenario& scenario) {
  scenario.config["device"]["flash"].merge_patch(way.flash);
  if (!way.clock.is_null()) scenario.config["device"]["cpu"]["clock_ghz"] = way.clock;
}

template <std::size_t Parts>
Duration sum(const Durations<Parts>& parts) {
  Duration total{};
  for (const Duration part : parts) total += part;
  return total;
}

}  // namespace

TEST_SUITE("property/flash") {
  TEST_CASE("bytes and hits do not depend on how reads reach the device, and times add up") {
    for (const char* overlap : {"none", "expert", "projection"}) {
      for (const std::size_t lanes : {1U, 3U, 8U}) {
        for (const char* prefetch : {"none", "previous_token"}) {
          std::optional<RunResult> plain;
          for (const Way& way : ways()) {
            CAPTURE(way.name);
            CAPTURE(overlap);
            CAPTURE(lanes);
            CAPTURE(prefetch);
            Scenario scenario(40, 3);
            scenario.config["execution"]["overlap"] = overlap;
            scenario.config["execution"]["lanes"] = lanes;
            scenario.config["prefetch"] = {{"policy", prefetch}};
            apply(way, scenario);
            const RunResult result = scenario.run().result;
            const TimeResult& time = *result.time;
            CHECK(sum(time.parts) == time.wall);
            CHECK(sum(time.path) == time.wall);
            CHECK(time.flash.bytes == result.cache.demand_bytes + result.prefetch.issued_bytes);
            CHECK(time.flash.lane >= time.flash.service);
            const auto held = static_cast<std::int64_t>(lanes) * time.wall;
            CHECK(time.flash.lane + time.flash.copy <= held + from_us(1e4));
            CHECK(time.dependency_ms <= to_ms(time.wall) / 40 + 1e-9);
            if (!plain) plain = result;
            if (std::string(prefetch) != "none") continue;
            CHECK(result.cache.hits == plain->cache.hits);
            CHECK(time.flash.bytes == plain->time->flash.bytes);
            CHECK(time.flash.reads == plain->time->flash.reads);
          }
        }
      }
    }
  }

  TEST_CASE("no way allocates in the steady state") {
    for (const Way& way : ways()) {
      CAPTURE(way.name);
      Scenario scenario(500, 7);
      scenario.config["execution"]["overlap"] = "expert";
      apply(way, scenario);
      const auto plan = scenario.plan();
      RunMetrics metrics(*plan, false);
      plan->simulation()->run(0, 200, &metrics, false);
      const std::size_t before = allocations();
      plan->simulation()->run(200, 500, &metrics, false);
      CHECK(allocations() == before);
    }
  }

  TEST_CASE("a range counts what the experts of the trace take together") {
    // 64 experts of 0.75 MiB are 48 MiB, in reads of 256 KiB.
    Scenario scenario(8, 3);
    scenario.config["device"]["flash"]["small_read_curve_kib_gbps"] = {{256, 0.1}, {1024, 1.0}};
    const auto stall = [&](const Json& range) {
      scenario.config["device"]["flash"]["range_derate"] = range;
      return to_ms(scenario.run().result.time->flash.service);
    };
    const double whole = stall(nullptr);
    CHECK(stall({{48, 1.0}, {49, 0.5}}) == doctest::Approx(whole));
    CHECK(stall({{47, 1.0}, {48, 0.5}}) == doctest::Approx(2 * whole));
  }
}

}  // namespace moesim::test
