#include "api/target_simulation.h"

#include <fmt/format.h>

#include <numeric>

#include "api/run.h"
#include "api/target_trace.h"
#include "support/scenario.h"
#include "support/targets.h"

namespace moesim::test {
namespace {

// The scenario as a row: 4 layers of 16 experts of 768 KiB, 4 for a token; every number measured.
TargetRow scenario_row() {
  TargetRow row;
  row.place = "t.json: /rows/0";
  row.top_k = 4;
  row.tokens = 64;
  row.tokens_dropped = 5;
  row.layers = 4;
  row.experts = 16;
  row.expert_bytes = {{768 * 1024, 4}};
  row.reads_per_expert = 3;
  row.expert_layout = "slices";
  row.measured = parse_json(R"({"tok_s": 1, "tok_s_all_tokens": 1, "io_ms": 1, "compute_ms": 1,
    "wall_ms": {"mean": 1, "p50": 1, "p90": 1, "p99": 1}, "stall_ms": 1, "mgmt_ms": 1,
    "mib_per_token": 1, "hit_pct": 1, "byte_hit_pct": 1, "tokens_used": 1, "tokens_dropped": 5,
    "median": {"io_ms": 1, "compute_ms": 1, "stall_ms": 1, "mgmt_ms": 1}})",
                            "measured");
  return row;
}

RunResult direct_run(const Scenario& scenario) {
  const auto plan = scenario.plan();
  ExecuteOptions options;
  options.keep_rows = true;
  return execute(*plan, options);
}

SimulatedRow simulated(const Scenario& scenario, const TargetRow& row) {
  return simulate_row(row, scenario.config, scenario.folder());
}

double ms(const TokenRow& token, TimePart part) {
  return to_ms(token.parts[static_cast<std::size_t>(part)]);
}

// Of the tokens after the first five.
template <class Value>
std::vector<double> used(const RunResult& run, Value value) {
  std::vector<double> values;
  for (std::size_t i = 5; i < run.rows.size(); ++i) values.push_back(value(run.rows[i]));
  return values;
}

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double work(const TokenRow& token) {
  return ms(token, TimePart::kCompute) + ms(token, TimePart::kOverhead) +
         ms(token, TimePart::kPredictor);
}

Scenario overlapped() {
  Scenario scenario;
  scenario.config["execution"]["overlap"] = "projection";
  return scenario;
}

}  // namespace

TEST_SUITE("api/target_simulation") {
  TEST_CASE("statistics are those of a direct run without its first tokens") {
    const Scenario scenario;
    const RunResult run = direct_run(scenario);
    const SimulatedRow row = simulated(scenario, scenario_row());
    std::vector<double> walls = used(run, [](const TokenRow& token) { return to_ms(token.wall); });
    REQUIRE(walls.size() == 59);
    CHECK(row.walls_ms.size() == 64);
    CHECK(row.walls_ms[63] == walls[58]);
    const Json& numbers = row.numbers;
    CHECK(numbers["wall_ms"]["mean"].get<double>() == doctest::Approx(mean(walls)));
    CHECK(numbers["tok_s"].get<double>() == doctest::Approx(1000 / mean(walls)));
    CHECK(numbers["tok_s_all_tokens"].get<double>() == doctest::Approx(1000 / mean(row.walls_ms)));
    CHECK(numbers["tokens_used"] == 59);
    CHECK(numbers["tokens_dropped"] == 5);
    std::sort(walls.begin(), walls.end());
    CHECK(numbers["wall_ms"]["p50"].get<double>() == doctest::Approx(walls[29]));
    // 0.9 * 58 = 52.2, 0.99 * 58 = 57.42
    CHECK(numbers["wall_ms"]["p90"].get<double>() ==
          doctest::Approx(0.8 * walls[52] + 0.2 * walls[53]));
    CHECK(numbers["wall_ms"]["p99"].get<double>() ==
          doctest::Approx(0.58 * walls[57] + 0.42 * walls[58]));
  }

  TEST_CASE("serial: io is the time blocked on reads, the rest is computing and management") {
    const Scenario scenario;
    const RunResult run = direct_run(scenario);
    const Json numbers = simulated(scenario, scenario_row()).numbers;
    const auto stall = [](const TokenRow& token) { return ms(token, TimePart::kFlashStall); };
    const auto admission = [](const TokenRow& token) { return ms(token, TimePart::kAdmission); };
    CHECK(numbers["io_ms"].get<double>() == doctest::Approx(mean(used(run, stall))));
    CHECK(numbers["stall_ms"] == 0);
    CHECK(numbers["compute_ms"].get<double>() == doctest::Approx(mean(used(run, work))));
    CHECK(numbers["mgmt_ms"].get<double>() == doctest::Approx(mean(used(run, admission))));
    CHECK(numbers["mgmt_ms"] > 0);
    CHECK(numbers["io_ms"].get<double>() + numbers["compute_ms"].get<double>() +
              numbers["mgmt_ms"].get<double>() ==
          doctest::Approx(numbers["wall_ms"]["mean"].get<double>()));
    std::vector<double> stalls = used(run, stall);
    std::nth_element(stalls.begin(), stalls.begin() + 29, stalls.end());
    CHECK(numbers["median"]["io_ms"].get<double>() == doctest::Approx(stalls[29]));
  }

  TEST_CASE("management is inside compute where the row has none apart") {
    const Scenario scenario;
    const Json apart = simulated(scenario, scenario_row()).numbers;
    TargetRow row = scenario_row();
    row.measured["mgmt_ms"] = nullptr;
    const Json inside = simulated(scenario, row).numbers;
    CHECK(inside["mgmt_ms"].is_null());
    CHECK(inside["compute_ms"].get<double>() ==
          doctest::Approx(apart["compute_ms"].get<double>() + apart["mgmt_ms"].get<double>()));
  }

  TEST_CASE("with overlap io is the time that lanes are busy, and the wait is the stall") {
    const Scenario scenario = overlapped();
    const RunResult run = direct_run(scenario);
    TargetRow row = scenario_row();
    row.overlap = true;
    const Json numbers = simulated(scenario, row).numbers;
    const auto lane = [](const TokenRow& token) { return to_ms(token.lane); };
    const auto stall = [](const TokenRow& token) { return ms(token, TimePart::kFlashStall); };
    CHECK(numbers["io_ms"].get<double>() == doctest::Approx(mean(used(run, lane))));
    CHECK(numbers["stall_ms"].get<double>() == doctest::Approx(mean(used(run, stall))));
    CHECK(numbers["compute_ms"].get<double>() == doctest::Approx(mean(used(run, work))));
    CHECK(numbers["io_ms"] > numbers["stall_ms"]);
  }

  TEST_CASE("page faults of a memory map are inside compute") {
    Scenario scenario;
    scenario.config["execution"]["read_path"] = "mmap";
    scenario.config["execution"].erase("lanes");
    scenario.config["device"]["flash"]["mmap_fault_us"] = 90;
    scenario.config["device"]["flash"]["mmap_window_kib"] = 16;
    TargetRow row = scenario_row();
    row.mmap = true;
    const Json numbers = simulated(scenario, row).numbers;
    CHECK(numbers["compute_ms"] == numbers["wall_ms"]["mean"]);
    for (const char* key : {"io_ms", "stall_ms", "mgmt_ms"}) CHECK(numbers[key] == 0);
  }

  TEST_CASE("bytes have their padding, hits are those of the whole run") {
    const Scenario scenario;
    const RunResult run = direct_run(scenario);
    TargetRow row = scenario_row();
    const auto mib = [&] {
      return simulated(scenario, row).numbers["mib_per_token"].get<double>() * (1 << 20);
    };
    const double bytes = mean(
        used(run, [](const TokenRow& token) { return static_cast<double>(token.read_bytes); }));
    const double misses =
        mean(used(run, [](const TokenRow& token) { return static_cast<double>(token.misses); }));
    CHECK(mib() == doctest::Approx(bytes + 3 * 4096 * misses));
    row.reads_per_expert = 0;  // not recorded: three
    CHECK(mib() == doctest::Approx(bytes + 3 * 4096 * misses));
    row.reads_per_expert = 2;
    CHECK(mib() == doctest::Approx(bytes + 2 * 4096 * misses));
    row.expert_layout = "contiguous";
    CHECK(mib() == doctest::Approx(bytes));
    const Json numbers = simulated(scenario, row).numbers;
    CHECK(numbers["byte_hit_pct"].get<double>() ==
          doctest::Approx(100 * (1 - bytes / (16 * 768 * 1024))));
    CHECK(numbers["hit_pct"].get<double>() ==
          doctest::Approx(100.0 * static_cast<double>(run.cache.hits) /
                          static_cast<double>(run.cache.accesses)));
  }

  TEST_CASE("hits of the prompt count too") {
    TraceData data = random_logits({64, 4, 16}, 4, 1);
    data.phase.assign(64, 1);
    std::fill_n(data.phase.begin(), 20, 0);
    const Scenario scenario(data);
    const RunResult run = direct_run(scenario);
    CHECK(run.prefill.accesses > 0);
    CHECK(simulated(scenario, scenario_row()).numbers["hit_pct"].get<double>() ==
          doctest::Approx(100.0 * static_cast<double>(run.prefill.hits + run.cache.hits) /
                          static_cast<double>(run.prefill.accesses + run.cache.accesses)));
  }

  TEST_CASE("the keys are those of what was measured, null where there is no such number") {
    const Scenario scenario;
    TargetRow row = scenario_row();
    row.measured = parse_json(R"({"tok_s": 3, "hit_pct": null, "swap_mib": 7, "io_ms": {"p50": 1},
      "wall_ms": {"p50": 1, "p90": null, "p42": 2}, "median": 5})",
                              "measured");
    const Json numbers = simulated(scenario, row).numbers;
    CHECK(numbers.size() == 6);
    CHECK(numbers["tok_s"].is_number());
    CHECK(numbers["wall_ms"].size() == 3);
    CHECK(numbers["wall_ms"]["p50"].is_number());
    for (const char* null :
         {"/hit_pct", "/swap_mib", "/io_ms", "/median", "/wall_ms/p90", "/wall_ms/p42"}) {
      CHECK(numbers.at(Json::json_pointer(null)).is_null());
    }
  }

  TEST_CASE("a routing with too few tokens is the row's error") {
    const Scenario scenario(5);
    CHECK(user_error_of([&] { (void)simulated(scenario, scenario_row()); }) ==
          "t.json: /rows/0: its routing has no more tokens than are dropped");
  }

  TEST_CASE("an error of the configuration bears the place of the row") {
    Scenario scenario;
    scenario.config["execution"]["threads"] = 0;
    CHECK(contains(user_error_of([&] { (void)simulated(scenario, scenario_row()); }),
                   "t.json: /rows/0: /execution/threads: expected "));
  }
}

}  // namespace moesim::test
