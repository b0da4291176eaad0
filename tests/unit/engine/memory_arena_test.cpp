// Memory above the app budget in whole runs: what comes back, what is stolen, what both cost.
#include "engine/memory_arena.h"

#include <cmath>

#include "support/scenario.h"

namespace moesim::test {
namespace {

constexpr double kExpertMib = 0.75;

// The phone's proportions: zram of one core slower than flash, a quarter of what is stolen billed
// to the app. Every token reads the whole of the one table.
Scenario phone_like(std::size_t tokens = 200) {
  Scenario scenario(tokens, 3);
  scenario.config["trace"]["warmup_tokens"] = 20;
  scenario.config["model"]["tie_word_embeddings"] = true;
  scenario.config["device"]["flash"]["bw_gbps"] = 2.4;
  scenario.config["device"]["flash"]["mmap_fault_us"] = 90;
  Json& memory = scenario.config["device"]["memory"];
  memory["zram_gbps"] = 1.5;
  memory["compress_gbps"] = 1.0;
  memory["direct_reclaim_share"] = 0.23;
  scenario.config["cache"] = {{"scope", "global"}, {"capacity_experts", 32}};
  return scenario;
}

// Room for so many experts beside everything else, to the byte where that is whole MiB.
void give_room(Scenario& scenario, double experts) {
  scenario.config["memory"]["app_budget_mib"] = 1e6;
  const MemoryResult memory = *scenario.run().result.memory;
  scenario.config["memory"]["app_budget_mib"] =
      memory.dense_mib + memory.kv_peak_mib + memory.buffers_mib + experts * kExpertMib;
}

double mean_ms(const RunReport& report) { return report.result.time->tpot_ms.mean; }

double overhead_ms(const RunReport& report) {
  return to_ms(report.result.time->parts[static_cast<std::size_t>(TimePart::kOverhead)]) /
         static_cast<double>(report.result.measured_tokens);
}

// What memory costs a token beside what it costs with plenty of it.
double extra_ms(Scenario scenario) {
  const double short_of_it = overhead_ms(scenario.run());
  scenario.config["memory"]["app_budget_mib"] = 1e6;
  return short_of_it - overhead_ms(scenario.run());
}

// Its rates hold at 2 GHz; when it is hot it runs at 1 GHz.
Scenario clocked(std::size_t tokens = 60) {
  Scenario scenario = phone_like(tokens);
  Json& device = scenario.config["device"];
  device["cpu"]["clock_ghz"] = 2.0;
  device["flash"]["hot_derate"] = 0.5;
  device["thermal"] = {{"tau_s", 90},
                       {"caps_ghz", Json::array({1.0})},
                       {"caps_heat", Json::array({0.9})},
                       {"flash_heat", 0.9}};
  device["provenance"]["/thermal"] = {{"tag", "estimate"}, {"source", "made up for tests"}};
  scenario.config["execution"]["thermal"] = "off";
  return scenario;
}

}  // namespace

TEST_SUITE("engine/memory_arena") {
  TEST_CASE("a larger cache first makes decoding faster, then slower, and always hits more") {
    Scenario scenario = phone_like();
    scenario.config["execution"]["threads"] =
        1;  // several bring pages back faster than flash would
    give_room(scenario, 32);
    std::vector<double> times;
    std::vector<std::uint64_t> hits;
    const std::vector<std::size_t> sizes{16, 24, 32, 40, 48, 56};
    for (const std::size_t experts : sizes) {
      scenario.config["cache"]["capacity_experts"] = experts;
      const RunReport report = scenario.run();
      times.push_back(mean_ms(report));
      hits.push_back(report.result.cache.hits);
      CHECK((report.result.memory->refault_mib_per_token > 0) == (experts > 32));
      CHECK((report.result.memory->reclaim_mib_per_token > 0) == (experts > 32));
    }
    for (std::size_t i = 1; i < sizes.size(); ++i) {
      CAPTURE(sizes[i]);
      CHECK(hits[i] > hits[i - 1]);
      CHECK((sizes[i] > 32 ? times[i] > times[2] : times[i] < times[i - 1]));
    }
  }

  TEST_CASE("where everything fits, to the byte, nothing is tracked and nothing changes") {
    Scenario scenario = phone_like(60);
    const Json before = result_json(scenario.run());
    give_room(scenario, 32);
    CHECK_FALSE(scenario.plan()->reclaims());
    CHECK(result_json(scenario.run()).at("throughput") == before.at("throughput"));
    scenario.config["memory"]["buffers_mib"] = 0.01;
    CHECK(scenario.plan()->reclaims());
  }

  TEST_CASE("what is moved adds up, and its price is overhead of the compute agent") {
    for (const auto& [overlap, threads] :
         {std::pair{"none", 1}, {"none", 4}, {"expert", 1}, {"projection", 1}, {"projection", 4}}) {
      CAPTURE(overlap);
      CAPTURE(threads);
      Scenario scenario = phone_like();
      scenario.config["execution"]["threads"] = threads;
      scenario.config["execution"]["overlap"] = overlap;
      const RunReport plenty = scenario.run();
      give_room(scenario, 24);
      const RunReport report = scenario.run();
      const MemoryResult& memory = *report.result.memory;
      CHECK(report.result.cache.hits == plenty.result.cache.hits);
      // Whatever is admitted or comes back has to push out as much, and what has left the cache
      // had lost its pages before: least recently used in both.
      const double admitted = to_mib(report.result.cache.demand_bytes) / 180;
      CHECK(memory.reclaim_mib_per_token ==
            doctest::Approx(memory.refault_mib_per_token + admitted).epsilon(0.03));
      // The threads of a product share what comes back and what that pushes out; what admission
      // pushes out is for one.
      const double returned = memory.refault_mib_per_token / threads;
      const double pushed = returned + memory.reclaim_mib_per_token - memory.refault_mib_per_token;
      const double price = returned * to_ms(transfer_time(kMiB, to_rate(1.5))) +
                           pushed * 0.23 * to_ms(transfer_time(kMiB, to_rate(1)));
      CHECK(overhead_ms(report) - overhead_ms(plenty) ==
            doctest::Approx(price).epsilon(threads == 1 ? 1e-6 : 0.02));
      Duration sum{};
      for (const Duration part : report.result.time->path) sum += part;
      CHECK(sum == report.result.time->token_wall);
    }
  }

  TEST_CASE("with the room of a cache, what is still in place is what such a cache would hit") {
    Scenario scenario = phone_like();
    scenario.config["cache"]["capacity_experts"] = 24;
    const RunReport small = scenario.run();
    scenario.config["cache"]["capacity_experts"] = 56;
    give_room(scenario, 24);
    const RunReport large = scenario.run();
    const double in_place =
        to_mib(large.result.cache.hits * 786432) / 180 - large.result.memory->refault_mib_per_token;
    CHECK(in_place ==
          doctest::Approx(to_mib(small.result.cache.hits * 786432) / 180).epsilon(0.05));
  }

  TEST_CASE("dense weights that do not fit come back with every token, from where they lie") {
    Scenario scenario = phone_like(40);
    scenario.config["cache"] = {{"capacity_experts", 0}};
    const RunReport plenty = scenario.run();
    give_room(scenario, 0);
    // 16 windows of 16 KiB are missing; the key-value cache is at its peak only at the end.
    Json& memory = scenario.config["memory"];
    memory["app_budget_mib"] = memory["app_budget_mib"].get<double>() - 0.25;
    const double kv_peak = plenty.result.memory->kv_peak_mib;
    REQUIRE(kv_peak < 0.25);
    const auto extra = [&](const char* pages) {
      memory["dense_pages"] = pages;
      const RunReport report = scenario.run();
      CHECK(mean_ms(report) - mean_ms(plenty) ==
            doctest::Approx(overhead_ms(report) - overhead_ms(plenty)));
      return std::pair{overhead_ms(report) - overhead_ms(plenty),
                       report.result.memory->refault_mib_per_token};
    };
    const auto [anonymous, from_zram] = extra("anonymous");
    CHECK(from_zram < 0.25);
    CHECK(from_zram > 0.25 - kv_peak);
    CHECK(anonymous == doctest::Approx(from_zram * 1.048576 * (1 / 1.5 + 0.23) / 4).epsilon(1e-3));
    const auto [file, from_flash] = extra("file");
    CHECK(from_flash == from_zram);
    CHECK(file == doctest::Approx(from_flash * 64 * 0.090 / 4).epsilon(0.1));  // whole windows
    // Only the key-value cache is left to be stolen.
    const auto [pinned, of_kv] = extra("pinned");
    CHECK(of_kv < kv_peak);
    CHECK(pinned < anonymous);
    CHECK(pinned > 0);
  }

  TEST_CASE("the input table goes first and is not missed, unless it is the head or pinned") {
    Scenario scenario = phone_like(60);
    scenario.config["model"]["tie_word_embeddings"] = false;
    const RunReport plenty = scenario.run();
    const double table = 1000 * 256 * 2 / static_cast<double>(kMiB);
    give_room(scenario, 32);
    const double budget = scenario.config["memory"]["app_budget_mib"].get<double>() - table;
    scenario.config["memory"]["app_budget_mib"] = budget;
    const RunReport without_table = scenario.run();
    CHECK(without_table.result.memory->over_budget_mib() == doctest::Approx(table));
    CHECK(without_table.result.memory->reclaim_mib_per_token == 0);
    CHECK(result_json(without_table).at("throughput") == result_json(plenty).at("throughput"));
    scenario.config["memory"]["dense_pages"] = "pinned";
    CHECK(scenario.run().result.memory->reclaim_mib_per_token > 0);
    scenario.config["memory"]["dense_pages"] = "anonymous";
    scenario.config["memory"]["app_budget_mib"] = budget - 0.1;
    CHECK(scenario.run().result.memory->reclaim_mib_per_token > 0);
    Scenario tied = phone_like(60);
    give_room(tied, 32 - table / kExpertMib);
    CHECK(tied.run().result.memory->reclaim_mib_per_token > 0);
  }

  TEST_CASE("more threads than cores bring pages back no faster") {
    Scenario scenario = phone_like(60);
    scenario.config["device"]["memory"]["direct_reclaim_share"] = 0;
    give_room(scenario, 24);
    const double four = extra_ms(scenario);
    scenario.config["execution"]["threads"] = 2;
    CHECK(extra_ms(scenario) == doctest::Approx(2 * four).epsilon(1e-6));
    scenario.config["execution"]["threads"] = 4;
    Json& device = scenario.config["device"];
    device["cpu"]["cores"] = Json::array({{{"count", 2}, {"ghz", 2.0}}});
    device["provenance"]["/cpu/cores"] = device["provenance"]["/cpu"];
    CHECK(extra_ms(scenario) == doctest::Approx(2 * four).epsilon(1e-6));
  }

  TEST_CASE("zram and reclaim follow the clock that is held, and the one that heat allows") {
    Scenario scenario = clocked();
    give_room(scenario, 24);
    const double full = extra_ms(scenario);
    REQUIRE(full > 0);
    scenario.config["execution"]["clock_ghz"] = 1.0;
    CHECK(extra_ms(scenario) == doctest::Approx(2 * full).epsilon(1e-6));
    scenario.config["execution"].erase("clock_ghz");
    scenario.config["execution"]["thermal"] = "sustained";
    CHECK(extra_ms(scenario) == doctest::Approx(2 * full).epsilon(1e-6));
    scenario.config["execution"]["thermal"] = "cold";
    CHECK(extra_ms(scenario) == doctest::Approx(full).epsilon(1e-6));
  }

  TEST_CASE("page faults do not follow the clock, but the device's part is slower when it is hot") {
    Scenario scenario = clocked();
    scenario.config["cache"] = {{"capacity_experts", 0}};
    scenario.config["weights"]["kv_bits"] = 1;
    give_room(scenario, -2.5);
    scenario.config["memory"]["dense_pages"] = "file";
    const double full = extra_ms(scenario);
    const double at_zram = scenario.run().result.memory->kv_peak_mib / (1.5 * 4);
    REQUIRE(at_zram < 0.01 * full);
    scenario.config["execution"]["clock_ghz"] = 1.0;
    CHECK(extra_ms(scenario) == doctest::Approx(full).epsilon(0.001));
    scenario.config["execution"].erase("clock_ghz");
    scenario.config["execution"]["thermal"] = "sustained";
    const double device_us = 16 * 1024 / 2.4e3;
    CHECK(extra_ms(scenario) == doctest::Approx(full * (90 + device_us) / 90).epsilon(0.001));
  }

  TEST_CASE("dense weights that leave no room: every hit comes back") {
    Scenario scenario = phone_like(60);
    give_room(scenario, -0.5);
    const RunReport report = scenario.run();
    const double hits = to_mib(report.result.cache.hits * 786432) / 40;
    CHECK(report.result.memory->refault_mib_per_token > hits);
    CHECK(report.result.memory->refault_mib_per_token < hits + 0.5);
  }

  TEST_CASE("a longer context takes pages from the experts") {
    Scenario scenario = phone_like(60);
    scenario.config["weights"]["kv_bits"] = 32;
    give_room(scenario, 31.9);
    const RunReport report = scenario.run();
    CHECK(report.result.memory->reclaim_mib_per_token > 0);
    scenario.config["trace"]["max_tokens"] = 30;  // the context is shorter, the budget the same
    CHECK(scenario.run().result.memory->reclaim_mib_per_token <
          report.result.memory->reclaim_mib_per_token);
  }

  TEST_CASE("pages of what is read ahead come when it arrives, and push others out") {
    Scenario scenario = phone_like();
    scenario.config["device"]["flash"]["host_delay_us"] = 10;
    scenario.config["prefetch"] = {{"policy", "noisy_oracle"},
                                   {"recall", 1.0},
                                   {"precision", 0.3},
                                   {"max_outstanding_mib", 3}};
    const RunReport plenty = scenario.run();
    give_room(scenario, 24);
    const RunReport report = scenario.run();
    CHECK(report.result.prefetch.wasted_bytes > 0);
    CHECK(mean_ms(report) > mean_ms(plenty));
    scenario.config["prefetch"] = {{"policy", "none"}};
    CHECK(report.result.memory->reclaim_mib_per_token >
          scenario.run().result.memory->reclaim_mib_per_token);
  }

  TEST_CASE("two precisions, sequences that empty the cache, and batches") {
    TraceData trace = random_logits({200, 4, 16}, 4, 3);
    for (std::int32_t token = 0; token < 200; ++token) trace.sequence.push_back(token / 50);
    Scenario mixed = phone_like();
    mixed.config["weights"]["on_miss"] = {{"policy", "slices"}, {"low_bits", 4}};
    Scenario copies = phone_like();
    copies.config["weights"]["on_miss"] = {{"policy", "hobbit"}, {"low_bits", 4}};
    Scenario resets(trace);
    Scenario batch(trace);
    for (Scenario* scenario : {&resets, &batch}) scenario->config.update(phone_like().config);
    resets.config["cache"]["reset"] = "sequence";
    resets.config["cache"]["initial"] = "random";
    batch.config["execution"]["batch"] = 2;
    for (Scenario* scenario : {&mixed, &copies, &resets, &batch}) {
      const Duration plenty = scenario->run().result.time->token_wall;
      give_room(*scenario, 24);
      const RunResult result = scenario->run().result;
      const auto tokens = static_cast<double>(result.measured_tokens);
      CHECK(result.memory->refault_mib_per_token > 0);
      CHECK(result.memory->refault_mib_per_token <= to_mib(result.cache.hits * 786432) / tokens);
      CHECK(result.time->token_wall > plenty);
      Duration sum{};
      for (const Duration part : result.time->parts) sum += part;
      CHECK(sum == result.time->token_wall);
    }
  }

  TEST_CASE("key-value caches of the sequences under way add up, pass by pass") {
    TraceData trace = random_logits({20, 4, 16}, 4, 3);
    for (std::int32_t token = 0; token < 20; ++token) trace.sequence.push_back(token / 10);
    Scenario scenario(trace);
    scenario.config["execution"]["batch"] = 2;
    const auto plan = scenario.plan();
    const std::vector<std::uint64_t> kv = kv_bytes_by_pass(plan->schedule(), *plan->costs());
    REQUIRE(kv.size() == 10);
    for (std::size_t pass = 0; pass < kv.size(); ++pass) {
      CHECK(kv[pass] == 2 * plan->costs()->kv_bytes(pass + 1));
    }
  }

  TEST_CASE("without zram nothing is reclaimed, which the result says") {
    Scenario scenario = phone_like(40);
    Json& memory = scenario.config["device"]["memory"];
    for (const char* key : {"zram_gbps", "compress_gbps", "direct_reclaim_share"})
      memory.erase(key);
    const RunReport plenty = scenario.run();
    give_room(scenario, 20);
    const RunReport report = scenario.run();
    CHECK(mean_ms(report) == mean_ms(plenty));
    CHECK(report.result.memory->reclaim_mib_per_token == 0);
    const std::string warning = report.result.warnings.back();
    CHECK(warning.find("no memory.zram_gbps") != std::string::npos);
  }
}

}  // namespace moesim::test
