// Runs with tiers behind the expert cache: times that can be written down, and their configuration.
#include <cmath>

#include "support/scenario.h"
#include "support/tier_devices.h"

namespace moesim::test {
namespace {

constexpr std::uint64_t kExpertBytes = 3 * 256 * 512 * 2;
constexpr std::size_t kStall = static_cast<std::size_t>(TimePart::kFlashStall);

Duration over_link(std::uint64_t bytes) {
  return from_us(20) + transfer_time(bytes, to_rate(10.0));
}
Duration from_flash(std::uint64_t bytes) {
  return from_us(110) + transfer_time(bytes, to_rate(1.0));
}

// One token after the other picks its experts in one MoE layer: token t the expert chosen[t].
TraceData picks(const std::vector<std::size_t>& chosen, std::size_t experts,
                std::int64_t expert_bytes) {
  TraceData trace;
  trace.shape = {chosen.size(), 1, experts};
  trace.logits_dtype = "F32";
  trace.logits.assign(chosen.size() * experts, 0);
  for (std::size_t token = 0; token < chosen.size(); ++token) {
    trace.logits[token * experts + chosen[token]] = 1;
  }
  trace.expert_bytes = {expert_bytes};
  trace.metadata = {{"model", "small"}, {"top_k", "1"}, {"gate", "A"}};
  return trace;
}

// 150 whole models of 14 GB as the experts of one layer, on the node of Composition of Experts.
Scenario whole_models(const std::vector<std::size_t>& chosen) {
  Scenario scenario(picks(chosen, 150, 14'000'000'000));
  scenario.config["model"]["num_hidden_layers"] = 1;
  scenario.config["model"]["moe_layers"] = 1;
  scenario.config["model"]["num_experts"] = 150;
  scenario.config["model"]["num_experts_per_tok"] = 1;
  scenario.config["device"] = "sn40l-node";
  scenario.config["cache"] = {{"capacity_experts", 0}};
  scenario.config["execution"] = {{"expert_layout", "contiguous"}};
  return scenario;
}

// The message of the configuration error after `change` of the scenario.
std::string error_after(const Json& device, const char* change) {
  Scenario scenario(1);
  scenario.config["device"] = device;
  scenario.config.merge_patch(parse_json(change, "change"));
  const std::string message = user_error_of([&] { static_cast<void>(scenario.plan()); });
  return message.substr(message.find(": ") + 2);  // without the file
}

}  // namespace

TEST_SUITE("engine/tiers") {
  TEST_CASE("all experts in host DRAM: a miss is one transfer a matrix over the link") {
    Scenario scenario(1);
    scenario.config["device"] = host_device();
    const RunReport report = scenario.run();
    const TimeResult& time = *report.result.time;
    const Duration transfers = 16 * 3 * over_link(kExpertBytes / 3);
    CHECK(time.parts[kStall] == transfers);
    CHECK(time.path[static_cast<std::size_t>(PathPart::kLink)] == transfers);
    CHECK_FALSE(time.has_flash);
    REQUIRE(time.tiers.size() == 1);
    CHECK(time.tiers[0].counts.link.service == transfers);
    CHECK(time.tiers[0].counts.link.bytes == 16 * kExpertBytes);
    CHECK(time.tiers[0].counts.cache.hits == 16);
    const Json result = result_json(report);
    CHECK(result.at("flash").is_null());
    CHECK(result.at("bounds").at("flash_ms").is_null());
    CHECK(result.at("tiers").at(0).at("capacity_mib").is_null());
    CHECK(result.at("tiers").at(0).at("hit_rate") == 1);
  }

  TEST_CASE("a miss of two tiers is the read of flash, then the transfer over the link") {
    Scenario scenario(1);
    scenario.config["device"] = host_and_flash_device(64);
    scenario.config["execution"] = {{"lanes", 1}, {"threads", 4}, {"expert_layout", "contiguous"}};
    const TimeResult time = *scenario.run().result.time;
    // Four experts a layer one after the other; the link moves one while flash reads the next.
    const Duration layer = 4 * from_flash(kExpertBytes) + over_link(kExpertBytes);
    CHECK(time.parts[kStall] == 4 * layer);
    CHECK(time.path[static_cast<std::size_t>(PathPart::kLink)] == 4 * over_link(kExpertBytes));
    CHECK(time.flash.bytes == 16 * kExpertBytes);
    CHECK(time.tiers[0].counts.cache.demand_bytes == 16 * kExpertBytes);
    // From the tier in between where it holds everything at the start.
    scenario.config["tiers"] = {{"host", {{"initial", "all"}}}};
    const TimeResult full = *scenario.run().result.time;
    CHECK(full.parts[kStall] == 16 * over_link(kExpertBytes));
    CHECK(full.flash.reads == 0);
  }

  TEST_CASE("where everything is resident, the store plays no part") {
    TraceData trace = random_logits({1, 4, 16}, 4, 3);
    trace.logits.insert(trace.logits.end(), trace.logits.begin(), trace.logits.begin() + 64);
    trace.shape.tokens = 2;
    Scenario scenario(trace);
    scenario.config["trace"]["warmup_tokens"] = 1;
    scenario.config["cache"] = {{"capacity_experts", 16}};
    const Duration flash = scenario.run().result.time->wall;
    for (const Json& device : {host_device(), host_and_flash_device(64)}) {
      scenario.config["device"] = device;
      const RunResult result = scenario.run().result;
      CHECK(result.time->wall == flash);
      CHECK(result.time->tiers[0].counts.cache.accesses == 0);
      CHECK(result.time->tiers[0].counts.link.bytes == 0);
    }
  }

  TEST_CASE("Composition of Experts: a model of 14 GB takes 14 ms from DDR to HBM at 1 TB/s") {
    Scenario scenario = whole_models({7, 7});
    const RunReport report = scenario.run();
    const TimeResult& time = *report.result.time;
    REQUIRE(time.tiers.size() == 2);
    CHECK(time.tiers[1].name == "ddr");
    // The file's latency of 10 us beside the bytes; moved once, for the second use finds it in HBM.
    CHECK(time.tiers[1].counts.link.service == from_us(14'000 + 10));
    CHECK(time.tiers[1].counts.link.bytes == 14'000'000'000);
    CHECK(time.tiers[0].counts.cache.hits == 1);
    // It streams out of HBM for each use, at 16 TB/s.
    const Duration stream = from_us(14e9 / 16e12 * 1e6 + 1);
    CHECK(time.tiers[0].counts.link.service == 2 * stream);
    CHECK(time.parts[kStall] == from_us(14'010) + 2 * stream);
    // Without latencies it is 14 ms to the picosecond.
    scenario.config["device"] =
        read_json_file(source_dir() / "configs" / "devices" / "sn40l-node.json", "sn40l-node.json");
    for (Json& tier : scenario.config["device"]["tiers"]) tier["link"]["latency_us"] = 0;
    CHECK(scenario.run().result.time->tiers[1].counts.link.service == from_us(14'000));
  }

  TEST_CASE("Composition of Experts: HBM of a node holds 39 models of 14 GB") {
    std::vector<std::size_t> chosen;
    for (std::size_t round = 0; round < 2; ++round) {
      for (std::size_t model = 0; model < 39; ++model) chosen.push_back(model);
    }
    const auto hbm = whole_models(chosen).run().result.time->tiers[0].counts.cache;
    CHECK(hbm.hits == 39);
    CHECK(hbm.evictions == 0);
    // One more, and in turns the least recently used is always the next one.
    for (std::size_t model = 0; model < 80; ++model) chosen.push_back(model % 40);
    CHECK(whole_models(chosen).run().result.time->tiers[0].counts.cache.hits == 39 + 39);
  }

  TEST_CASE(
      "the energy of a transfer is that of every link on its way, and flash only where read") {
    Scenario scenario(1);
    scenario.config["device"] = host_device();
    auto parts = scenario.run().result.energy->by_component;
    CHECK_FALSE(parts.contains("flash"));
    CHECK(parts.at("links") == doctest::Approx(16 * kExpertBytes * 1e-9 * 0.0625));
    CHECK(parts.at("dram_dma") == doctest::Approx(16 * kExpertBytes * 1e-9 * 0.05));
    scenario.config["device"] = host_and_flash_device(64);
    parts = scenario.run().result.energy->by_component;
    CHECK(parts.at("flash") == doctest::Approx(16 * kExpertBytes * 1e-9 * 0.5));
    scenario.config["tiers"] = {{"host", {{"initial", "all"}}}};
    CHECK(scenario.run().result.energy->by_component.at("flash") == 0);
  }

  TEST_CASE("without tiers nothing about them is in the result") {
    const Json result = result_json(Scenario(1).run());
    CHECK_FALSE(result.contains("tiers"));
    CHECK_FALSE(result.at("config").contains("tiers"));
    CHECK_FALSE(result.at("critical_path_ms_per_token").contains("link"));
    CHECK_FALSE(result.at("energy").at("by_component").contains("links"));
  }

  TEST_CASE("the configuration in force names what it takes from the device, and is one itself") {
    Scenario scenario(4);
    scenario.config["device"] = host_and_flash_device(64);
    scenario.config["tiers"] = {{"host", {{"capacity_mib", 8}}}};
    const Json resolved = scenario.plan()->config().resolved;
    CHECK(resolved.at("tiers") ==
          parse_json(R"({"host": {"capacity_mib": 8.0, "eviction": {"policy": "lru"},
                                  "initial": "empty"}})",
                     "expected"));
    scenario.config["tiers"] = resolved.at("tiers");
    CHECK(scenario.plan()->config().resolved == resolved);
    scenario.config["device"] = host_device();
    scenario.config.erase("tiers");
    const Json store = scenario.plan()->config().resolved;
    CHECK(store.at("tiers") == parse_json(R"({"host": {"capacity_mib": null}})", "expected"));
    scenario.config["tiers"] = store.at("tiers");
    CHECK(scenario.plan()->config().resolved == store);
  }

  TEST_CASE("each tier has an eviction policy of its own") {
    Scenario scenario(48);
    scenario.config["device"] = host_and_flash_device(24);
    const auto evicted_by = [&](const char* policy) {
      scenario.config["tiers"] = {{"host", {{"eviction", {{"policy", policy}}}}}};
      return scenario.run().result.time->tiers[0].counts.cache;
    };
    const CacheCounts lru = evicted_by("lru");
    const CacheCounts lfu = evicted_by("lfu");
    CHECK(lru.accesses == lfu.accesses);
    CHECK(lru.hits != lfu.hits);
  }

  TEST_CASE("what the configuration may say about tiers") {
    const Json host = host_and_flash_device(64);
    CHECK(error_after(host, R"({"tiers": {"host": {"capacity_mib": 0.5}}})") ==
          "/tiers/host/capacity_mib: expected room for at least one expert, 0.750 MiB, got 0.5 "
          "MiB");
    CHECK(error_after(host, R"({"tiers": {"host": {"capacity_mib": 8, "initial": "all"}}})") ==
          "/tiers/host/initial: expected empty, because 8 MiB do not hold all experts, 48.000 "
          "MiB");
    CHECK(error_after(host, R"({"tiers": {"host": {"eviction": {"policy": "belady"}}}})") ==
          "/tiers/host/eviction/policy: expected a policy that does not look ahead, got belady: "
          "what a tier is asked for is known only after the run");
    CHECK(contains(error_after(host, R"({"tiers": {"host": {"eviction": {"policy": "lur"}}}})"),
                   "/tiers/host/eviction/policy: unknown value \"lur\""));
    CHECK(contains(error_after(host, R"({"tiers": {"hots": {}}})"), "/tiers/hots: unknown key"));
    CHECK(contains(error_after(host, R"({"tiers": {"host": {"link": {}}}})"),
                   "/tiers/host/link: unknown key"));
    CHECK(contains(error_after(host, R"({"tiers": {"host": {"initial": "full"}}})"),
                   "/tiers/host/initial: unknown value \"full\""));
    CHECK(contains(error_after(host, R"({"tiers": {"host": {"capacity_mib": 0}}})"),
                   "/tiers/host/capacity_mib: expected a number"));
    CHECK(error_after(host_device(), R"({"tiers": {"host": {"capacity_mib": 8}}})") ==
          "/tiers/host/capacity_mib: expected null, because the device's host holds every expert "
          "and nothing is behind it");
    CHECK(contains(error_after(host_device(), R"({"tiers": {"host": {"initial": "all"}}})"),
                   "/tiers/host/initial: unknown key"));
    CHECK(error_after(scenario_device(), R"({"tiers": {"host": {}}})") ==
          "/tiers: expected none, because the device test-device has no tiers");
    CHECK(error_after(nullptr, R"({"device": null, "tiers": {"host": {}}})") ==
          "/tiers: expected none, because there is no device");
  }

  TEST_CASE("the eviction policy that the device names is checked too") {
    Json device = host_and_flash_device(64);
    device["tiers"][0]["eviction"] = {{"policy", "lur"}};
    CHECK(contains(error_after(device, "{}"), "/device/tiers/0/eviction/policy: unknown value"));
  }

  TEST_CASE("a tier no larger than the cache is warned about") {
    Scenario scenario(2);
    scenario.config["device"] = host_and_flash_device(64);
    const auto warnings = [&] { return Json(scenario.plan()->warnings()).dump(); };
    CHECK_FALSE(contains(warnings(), "the tier host holds"));
    scenario.config["tiers"] = {{"host", {{"capacity_mib", 24}}}};
    CHECK(contains(warnings(), "the tier host holds 24 MiB, no more than what is in front of it"));
  }

  TEST_CASE("the timeline has a track for every link") {
    Scenario scenario(2);
    scenario.config["device"] = host_and_flash_device(64);
    Timeline timeline;
    ExecuteOptions options;
    options.timeline = &timeline;
    execute(*scenario.plan(), options);
    std::ostringstream out;
    timeline.write(out);
    CHECK(contains(out.str(), "\"from host\""));
    CHECK(contains(out.str(), "STALL: waiting for the store"));
    std::size_t transfers = 0;
    const Json written = parse_json(out.str(), "timeline");
    for (const Json& event : written.at("traceEvents")) {
      transfers += event.at("pid") == 4 && event.at("ph") == "X" ? 1U : 0U;
    }
    CHECK(transfers > 16 * 3);
  }
}

}  // namespace moesim::test
