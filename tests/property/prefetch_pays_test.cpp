// Reading ahead is not free: what it is charged, when it loses, when it wins. And what overlap and
// small caches do.
#include <cmath>

#include "support/scenario.h"

namespace moesim::test {
namespace {

Scenario locality(std::size_t tokens = 200) {
  Scenario scenario(tokens, 3);
  scenario.config["trace"]["warmup_tokens"] = 20;
  return scenario;
}

double mean_ms(const RunReport& report) { return report.result.time->tpot_ms.mean; }

Duration part(const RunReport& report, TimePart which) {
  return report.result.time->parts[static_cast<std::size_t>(which)];
}

// A device on which a predictor that is right 19 times out of 20, at 2 MiB of weights a prediction,
// pays: flash idles while layers compute, admission is cheap, and memory suffices.
Scenario roomy() {
  Scenario scenario = locality();
  Json& device = scenario.config["device"];
  device["flash"]["bw_gbps"] = 8;
  device["flash"]["host_delay_us"] = 150;
  device["cpu"]["layer_overhead_us"] = 300;
  device["dram"] = {{"total_gbps", 80}, {"cpu_gbps", 80}, {"cpu_core_gbps", 20}, {"dma_factor", 1}};
  device["memory"]["admit_us_per_page"] = 0.1;
  device["memory"]["zram_gbps"] = 1.5;
  device["memory"]["direct_reclaim_share"] = 0.23;
  scenario.config["execution"] = {{"overlap", "expert"}, {"lanes", 4}, {"threads", 4}};
  scenario.config["cache"] = {{"scope", "global"}, {"capacity_experts", 40}};
  scenario.config["prefetch"] = {{"policy", "noisy_oracle"},
                                 {"recall", 0.95},
                                 {"precision", 0.6},
                                 {"predictor_mib", 2},
                                 {"max_outstanding_mib", 6}};
  return scenario;
}

// What reading ahead adds to the tokens: below 0 it pays. `parts`: the same, by part.
struct Added {
  Duration wall{};
  Durations<kTimeParts> parts{};
};

Added added_by_prefetch(Scenario scenario) {
  const RunReport ahead = scenario.run();
  scenario.config["prefetch"] = {{"policy", "none"}};
  const RunReport none = scenario.run();
  CHECK(ahead.result.prediction.recall > 0.9);
  CHECK(ahead.result.prefetch.useful + ahead.result.prefetch.late > 100);
  Added added{ahead.result.time->token_wall - none.result.time->token_wall, {}};
  for (std::size_t i = 0; i < kTimeParts; ++i) {
    added.parts[i] = ahead.result.time->parts[i] - none.result.time->parts[i];
  }
  return added;
}

}  // namespace

TEST_SUITE("property/prefetch pays") {
  TEST_CASE("one predictor, one device: each charge alone makes a predictor that pays lose") {
    struct Charge {
      std::string name;
      const char* pointer;
      double value;
      TimePart pays;  // what it makes longer
    };
    const Added base = added_by_prefetch(roomy());
    CHECK(base.wall < Duration::zero());
    for (const Charge& charge :
         {Charge{"flash is busy", "/device/flash/bw_gbps", 2.0, TimePart::kFlashStall},
          Charge{"pages cost more to commit", "/device/memory/admit_us_per_page", 0.5,
                 TimePart::kAdmission},
          Charge{"the predictor is larger", "/prefetch/predictor_mib", 8.0, TimePart::kPredictor},
          Charge{"memory is short", "/memory/app_budget_mib", 22, TimePart::kOverhead}}) {
      CAPTURE(charge.name);
      Scenario scenario = roomy();
      scenario.config[Json::json_pointer(charge.pointer)] = charge.value;
      const Added added = added_by_prefetch(scenario);
      CHECK(added.wall > Duration::zero());
      // The part that the charge makes longer takes, alone, more than there was to gain.
      const auto part = static_cast<std::size_t>(charge.pays);
      CHECK(added.parts[part] - base.parts[part] > -base.wall);
    }
  }

  TEST_CASE("every charge of what is read ahead for nothing shows") {
    // Nothing that is named is ever needed, and the cache has room for all of it.
    Scenario scenario = locality(80);
    scenario.config["cache"] = {{"scope", "global"}, {"capacity_experts", 40}};
    scenario.config["device"]["memory"]["zram_gbps"] = 1.5;
    scenario.config["device"]["memory"]["direct_reclaim_share"] = 0.23;
    scenario.config["memory"]["app_budget_mib"] = 22;
    const RunReport none = scenario.run();
    scenario.config["prefetch"] = {{"policy", "noisy_oracle"},
                                   {"recall", 0.3},
                                   {"precision", 0.3},
                                   {"predictor_mib", 1},
                                   {"max_outstanding_mib", 3}};
    const RunReport ahead = scenario.run();
    REQUIRE(ahead.result.prefetch.wasted_bytes > 0);
    CHECK(part(none, TimePart::kPredictor) == Duration::zero());
    // A prediction after every visit, and one at the start of a token costs the same.
    const auto predictions = part(ahead, TimePart::kPredictor) / transfer_time(kMiB, to_rate(20.0));
    CHECK(predictions >= 4 * 60);
    // Admission: every read, whoever asked for it.
    const auto admitted = [](const RunReport& report) {
      const RunResult& result = report.result;
      return result.cache.misses + result.prefetch.issued - result.prefetch.late;
    };
    const double per_expert_ms = std::ceil(786432 / 4096.0) * 0.0005;
    // Reads that were under way as the measured tokens began and ended.
    CHECK(to_ms(part(ahead, TimePart::kAdmission)) ==
          doctest::Approx(static_cast<double>(admitted(ahead)) * per_expert_ms).epsilon(0.02));
    CHECK(admitted(ahead) > admitted(none));
    // DRAM, flash and reclaim.
    CHECK(ahead.result.time->flash.bytes ==
          ahead.result.cache.demand_bytes + ahead.result.prefetch.issued_bytes);
    CHECK(ahead.result.time->dram_bound_ms > none.result.time->dram_bound_ms);
    CHECK(ahead.result.memory->reclaim_mib_per_token > none.result.memory->reclaim_mib_per_token);
    CHECK(part(ahead, TimePart::kOverhead) > part(none, TimePart::kOverhead));
  }

  TEST_CASE("demand waits for the speculative reads that hold lanes and device before it") {
    // With one expert a visit, all of it read: what is read ahead is always the wrong one.
    TraceData data;
    data.shape = {3, 4, 16};
    data.logits_dtype = "F32";
    data.metadata = {{"model", "small"}, {"top_k", "1"}, {"gate", "A"}};
    for (std::size_t visit = 0; visit < 12; ++visit) {
      const std::size_t chosen = (5 * (visit % 4) + visit / 4) % 16;
      for (std::size_t e = 0; e < 16; ++e) data.logits.push_back(e == chosen ? 10.0F : 0.0F);
    }
    Scenario scenario(data);
    scenario.config["cache"] = {{"capacity_experts", 8}};
    scenario.config["execution"]["expert_layout"] = "contiguous";
    scenario.config["device"]["memory"]["admit_us_per_page"] = 0;
    for (const std::size_t lanes : {1, 2}) {
      CAPTURE(lanes);
      scenario.config["execution"]["lanes"] = lanes;
      scenario.config["prefetch"] = {{"policy", "none"}};
      const RunReport none = scenario.run();
      scenario.config["prefetch"] = {{"policy", "previous_layer"}};
      const RunReport ahead = scenario.run();
      REQUIRE(ahead.result.prefetch.issued > 0);
      REQUIRE(ahead.result.prefetch.useful + ahead.result.prefetch.late == 0);
      const Duration more = part(ahead, TimePart::kFlashStall) - part(none, TimePart::kFlashStall);
      CHECK(more > Duration::zero());
      // Never longer than what is left of one read for each that was issued: reads cannot be
      // recalled, but they do not go first again.
      const Duration one = from_us(110) + transfer_time(786432, to_rate(1.0));
      CHECK(more <= static_cast<std::int64_t>(ahead.result.prefetch.issued) * one);
    }
  }
}

TEST_SUITE("property/run behaviours") {
  TEST_CASE("a global cache below one token cycle hits exactly nothing") {
    Scenario scenario = locality();
    // One token uses 4 x 4 experts. Between two uses of an expert lie those of the other layers.
    for (const std::size_t experts : {4, 8, 12}) {
      scenario.config["cache"] = {{"scope", "global"}, {"capacity_experts", experts}};
      CHECK(scenario.run().result.cache.hits == 0);
    }
    scenario.config["cache"]["capacity_experts"] = 16;
    CHECK(scenario.run().result.cache.hits > 0);
  }

  TEST_CASE("overlap helps with a warm cache, and gains nothing where DRAM limits all") {
    Scenario scenario = locality();
    const auto times = [&scenario] {
      scenario.config["execution"]["overlap"] = "none";
      const double serial = mean_ms(scenario.run());
      scenario.config["execution"]["overlap"] = "expert";
      return std::pair{serial, mean_ms(scenario.run())};
    };
    scenario.config["cache"] = {{"scope", "global"}, {"capacity_experts", 40}};
    scenario.config["device"]["dram"]["total_gbps"] = 6;
    scenario.config["device"]["dram"]["cpu_gbps"] = 6;
    scenario.config["device"]["dram"]["cpu_core_gbps"] = 6;
    const auto [serial, overlapped] = times();
    CHECK(overlapped < 0.98 * serial);
    // Bounced reads that fill DRAM by themselves, and no cache: what is done at the same time
    // takes as long as one after the other.
    scenario.config["cache"] = {{"capacity_experts", 0}};
    scenario.config["device"]["flash"]["bw_gbps"] = 2.0;
    scenario.config["device"]["flash"]["host_delay_us"] = 0;
    scenario.config["device"]["flash"]["dev_cmd_us"] = 0;
    scenario.config["device"]["dram"]["dma_factor"] = 3;
    const auto [serial_cold, overlapped_cold] = times();
    CHECK(overlapped_cold >= 0.999 * serial_cold);
  }
}

}  // namespace moesim::test
