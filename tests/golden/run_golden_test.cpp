// The fixtures through whole runs: configuration in, result out, as a user gets them.
#include <cmath>

#include "support/scenario.h"
#include "trace/importers/importer.h"
#include "trace/synthetic.h"

namespace moesim::test {
namespace {

constexpr double kTolerance = 1e-9;  // tests/golden/README.md

// The layer that the fixtures were made from.
TraceData golden_layer() {
  SyntheticOptions options;
  options.kind = SyntheticKind::kSegments;
  options.seed = 1;
  options.tokens = 256;
  options.layers = 1;
  options.experts = 16;
  options.k = 4;
  return synthetic_trace(options);
}

// The cache section of a fixture row; touch_order stands beside the eviction policy there.
Json cache_of(const Json& row, std::size_t capacity) {
  Json eviction = row.at("eviction");
  Json cache = {{"capacity_experts", capacity}, {"accounting", row.at("accounting")}};
  if (eviction.contains("touch_order")) {
    cache["touch_order"] = eviction["touch_order"];
    eviction.erase("touch_order");
  }
  cache["eviction"] = eviction;
  return cache;
}

void check_number(const Json& expected, const std::string& key, const Json& got) {
  if (!expected.contains(key)) return;
  CAPTURE(key);
  REQUIRE(got.is_number());
  CHECK(std::abs(got.get<double>() - expected.at(key).get<double>()) <= kTolerance);
}

void check_row(const Json& row) {
  const std::string id = row.at("id").get<std::string>();
  CAPTURE(id);
  Scenario scenario(golden_layer());
  scenario.config.erase("model");
  scenario.config["device"] = nullptr;
  scenario.config["routing"] = row.at("routing");
  scenario.config["cache"] = cache_of(row, 8);
  const Json result = result_json(scenario.run());
  const Json& expected = row.at("expected");
  const Json& cache = result.at("cache");
  CHECK(cache.at("accesses") == expected.at("accesses"));
  CHECK(cache.at("hits") == expected.at("hits"));
  CHECK(cache.at("misses") == expected.at("misses"));
  if (expected.contains("loads")) {
    CHECK(cache.at("loads") == expected.at("loads"));
    CHECK(cache.at("evictions") == expected.at("evictions"));
    check_number(expected, "mean_lifetime_tokens", cache.at("mean_lifetime_tokens"));
  }
  if (!expected.contains("proxies")) return;
  const Json& routing = result.at("routing");
  check_number(expected, "mean_experts", routing.at("experts_per_token_layer"));
  for (const char* key : {"added", "removed"}) {
    if (expected.contains(key)) CHECK(routing.at(key) == expected.at(key));
  }
  for (const char* key : {"agreement", "retained_mass", "dropped_mass", "total_variation",
                          "jensen_shannon", "gate_l2", "logit_regret", "skipped_mass"}) {
    check_number(expected.at("proxies"), key, routing.at(key));
  }
  for (const char* key : {"dropped_mass", "jensen_shannon", "gate_l2"}) {
    check_number(expected.at("p95"), key, routing.at("p95").at(key));
  }
  CHECK(routing.at("displaced_by_rank") == expected.at("displaced_by_rank"));
  CHECK(routing.at("promoted_by_rank") == expected.at("promoted_by_rank"));
}

Scenario phone_scenario(const std::filesystem::path& file) {
  ImportRequest request;
  request.inputs = {file};
  Scenario scenario(import_trace("bigmoeonedge", request).data);
  scenario.config.erase("model");
  scenario.config["device"] = nullptr;
  return scenario;
}

std::string route_file(const Json& row) {
  return "raw_traces/Helldez__BigMoeOnEdge/" + row.at("trace").get<std::string>() + ".route.csv";
}

}  // namespace

TEST_SUITE("golden/run") {
  TEST_CASE("the synthetic layer: every row") {
    std::size_t rows = 0;
    const Json fixture = golden("synthetic_seed1.json");
    for (const Json& row : fixture.at("rows")) {
      check_row(row);
      ++rows;
    }
    CHECK(rows == 23);
  }

  TEST_CASE("the synthetic layer: policies that change the number of experts") {
    const Json fixture = golden("dynamic_seed1.json");
    CHECK(fixture.at("rows").size() == 8);
    for (const Json& row : fixture.at("rows")) check_row(row);
  }

  TEST_CASE("recorded phone traces through one cache for all layers, in bytes") {
    const Json fixture = golden("phone_trace_cache.json");
    for (const Json& row : fixture.at("global_byte_lru").at("rows")) {
      const auto file = third_party(route_file(row));
      if (!file) return;
      CAPTURE(row.dump());
      Scenario scenario = phone_scenario(*file);
      scenario.config["cache"] = {
          {"scope", "global"}, {"capacity_mib", row.at("budget_mib")}, {"overflow", "keep_event"}};
      const Json result = result_json(scenario.run());
      const Json& decode = result.at("cache");
      const Json& prefill = result.at("prefill");
      CHECK(decode.at("hits") == row.at("decode_hits"));
      CHECK(decode.at("accesses") == row.at("decode_lookups"));
      CHECK(decode.at("hits").get<int>() + prefill.at("hits").get<int>() == row.at("hits"));
      CHECK(decode.at("accesses").get<int>() + prefill.at("accesses").get<int>() ==
            row.at("lookups"));
      CHECK(100 * decode.at("hit_rate").get<double>() ==
            doctest::Approx(row.at("decode_hit_percent").get<double>()).epsilon(1e-9));
      if (row.contains("published_belady_decode_percent")) {
        CHECK(100 * result.at("bounds").at("belady_hit_rate").get<double>() ==
              doctest::Approx(row.at("published_belady_decode_percent").get<double>())
                  .epsilon(0.002));
      }
    }
  }

  TEST_CASE("recorded phone traces through one cache per layer") {
    const Json rules = {{"lru_descending", {{"policy", "lru"}}},
                        {"lru_ascending", {{"policy", "lru"}}},
                        {"lru_access", {{"policy", "lru"}}},
                        {"lfu", {{"policy", "lfu"}}},
                        {"lfru", {{"policy", "lfru"}}},
                        {"belady", {{"policy", "belady"}}},
                        {"min_bypass", {{"policy", "min_bypass"}}}};
    const Json fixture = golden("phone_trace_cache.json");
    for (const Json& row : fixture.at("per_layer").at("rows")) {
      const auto file = third_party(route_file(row));
      if (!file) return;
      for (const auto& rule : rules.items()) {
        const std::string name = rule.key();
        CAPTURE(row.dump());
        CAPTURE(name);
        Scenario scenario = phone_scenario(*file);
        scenario.config["trace"]["prefill"] = "skip";
        scenario.config["cache"] = {
            {"capacity_experts", row.at("capacity")},
            {"eviction", rule.value()},
            {"accounting", name == "lru_access" ? "access" : "event"},
            {"touch_order", name == "lru_ascending" ? "ascending" : "descending"}};
        const Json result = result_json(scenario.run());
        const Json& hits = row.at("hits");
        CHECK(result.at("cache").at("hits") == hits.at(name));
        if (name != "lru_descending") continue;
        const auto bound = [&](const char* rate) {
          const double accesses = row.at("accesses").get<double>();
          return std::llround(result.at("bounds").at(rate).get<double>() * accesses);
        };
        CHECK(bound("belady_hit_rate") == hits.at("belady"));
        CHECK(bound("min_bypass_hit_rate") == hits.at("min_bypass"));
        CHECK(bound("hit_rate_upper_bound") == hits.at("min_bypass"));
        CHECK(bound("hit_rate_lower_bound") == hits.at("min_bypass"));
      }
    }
  }
}

}  // namespace moesim::test
