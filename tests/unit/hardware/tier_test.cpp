#include "hardware/tier.h"

#include "hardware/device.h"
#include "support/testing.h"

namespace moesim::test {
namespace {

// GPU memory, host DRAM, SSD.
Json three_tiers() {
  return parse_json(R"({
      "name": "gpu",
      "tiers": [{"name": "host", "capacity_mib": 100, "link": {"gbps": 25, "latency_us": 10},
                 "eviction": {"policy": "lfu"}}],
      "flash": {"bw_gbps": 5, "host_delay_us": 100},
      "dram": {"total_gbps": 600, "cpu_gbps": 600},
      "cpu": {"threads": 1},
      "memory": {"app_budget_mib": 4000},
      "provenance": {
        "/tiers": {"tag": "estimate", "source": "none"},
        "/flash": {"tag": "estimate", "source": "none"},
        "/dram": {"tag": "estimate", "source": "none"},
        "/cpu": {"tag": "estimate", "source": "none"},
        "/memory": {"tag": "estimate", "source": "none"}}})",
                    "d.json");
}

// Host DRAM alone, which holds everything.
Json two_tiers() {
  Json device = three_tiers();
  device["tiers"][0].erase("capacity_mib");
  device["tiers"][0].erase("eviction");
  device.erase("flash");
  device["provenance"].erase("/flash");
  return device;
}

Device read(const Json& device) { return read_device(Section(device, "d.json", "")); }
std::string error_of(const Json& device) {
  return user_error_of([&] { read(device); });
}

}  // namespace

TEST_SUITE("hardware/tier") {
  TEST_CASE("a tier with a capacity is in front of flash") {
    const Device device = read(three_tiers());
    REQUIRE(device.tiers.size() == 1);
    const TierSpec& tier = device.tiers[0];
    CHECK(tier.name == "host");
    CHECK(tier.capacity_mib == 100);
    CHECK(tier.link.gbps == 25);
    CHECK(tier.link.latency_us == 10);
    CHECK(tier.link.j_per_gb == 0);
    CHECK(tier.eviction->at("policy") == "lfu");
    CHECK(device.flash.has_value());
  }

  TEST_CASE("a tier without capacity holds everything and takes the place of flash") {
    const Device device = read(two_tiers());
    CHECK_FALSE(device.flash.has_value());
    CHECK_FALSE(device.tiers[0].capacity_mib.has_value());
    CHECK_FALSE(device.tiers[0].eviction.has_value());
  }

  TEST_CASE("a device without tiers has none") {
    Json device = three_tiers();
    device.erase("tiers");
    device["provenance"].erase("/tiers");
    CHECK(read(device).tiers.empty());
  }

  TEST_CASE("the least recently used leaves unless the file says otherwise") {
    Json device = three_tiers();
    device["tiers"][0].erase("eviction");
    CHECK(read(device).tiers[0].eviction->at("policy") == "lru");
  }

  TEST_CASE("what is behind the last tier is given exactly where something is") {
    Json device = three_tiers();
    device.erase("flash");
    device["provenance"].erase("/flash");
    CHECK(error_of(device) == "d.json: /flash: missing key");
    device = three_tiers();
    device["tiers"][0].erase("capacity_mib");
    device["tiers"][0].erase("eviction");
    CHECK(error_of(device) ==
          "d.json: /flash: expected none, because the tier host has no capacity_mib: it holds "
          "every expert");
  }

  TEST_CASE("only the last tier may hold everything, and it evicts nothing") {
    Json device = two_tiers();
    device["tiers"].push_back({{"name", "far"}, {"link", {{"gbps", 1}}}});
    CHECK(error_of(device) ==
          "d.json: /tiers/0/capacity_mib: expected a number, because only the last tier may hold "
          "every expert");
    device = two_tiers();
    device["tiers"][0]["eviction"] = {{"policy", "lru"}};
    CHECK(error_of(device) ==
          "d.json: /tiers/0/eviction: expected none, because this tier holds every expert");
  }

  TEST_CASE("names are there, different, and no word of another meaning") {
    for (const char* name : {"", "flash", "a/b", "a~b"}) {
      CAPTURE(name);
      Json device = three_tiers();
      device["tiers"][0]["name"] = name;
      CHECK(error_of(device) ==
            "d.json: /tiers/0/name: expected a name without / and ~ that is not flash, got \"" +
                std::string(name) + "\"");
    }
    Json device = three_tiers();
    device["tiers"].push_back(device["tiers"][0]);
    CHECK(error_of(device) ==
          "d.json: /tiers/1/name: expected a name of its own, got \"host\" again");
  }

  TEST_CASE("the array, its keys and their ranges are checked") {
    Json device = three_tiers();
    device["tiers"] = Json::array();
    CHECK(error_of(device) ==
          "d.json: /tiers: expected an array of 1 to 8 tiers, nearest first, got []");
    device["tiers"] = 3;
    CHECK(contains(error_of(device), "d.json: /tiers: expected an array"));
    device = three_tiers();
    device["tiers"][0]["size"] = 3;
    CHECK(contains(error_of(device), "d.json: /tiers/0/size: unknown key; known here: "));
    device = three_tiers();
    device["tiers"][0]["link"]["rate"] = 3;
    CHECK(contains(error_of(device), "d.json: /tiers/0/link/rate: unknown key"));
    device = three_tiers();
    device["tiers"][0]["link"]["gbps"] = 0;
    CHECK(contains(error_of(device), "d.json: /tiers/0/link/gbps: expected a number in "));
    device = three_tiers();
    device["tiers"][0]["capacity_mib"] = 0;
    CHECK(contains(error_of(device), "d.json: /tiers/0/capacity_mib: expected a number"));
  }

  TEST_CASE("every number of a tier has a source") {
    Json device = three_tiers();
    device["provenance"].erase("/tiers");
    device["provenance"]["/tiers/0/link"] = {{"tag", "estimate"}, {"source", "none"}};
    CHECK(contains(error_of(device), "d.json: /tiers/0/capacity_mib: expected an entry"));
  }

  TEST_CASE("where energy is given, links take some, and flash only where there is one") {
    Json device = three_tiers();
    device["provenance"]["/energy"] = {{"tag", "estimate"}, {"source", "none"}};
    device["energy"] = {
        {"flash_j_per_gb", 1}, {"cpu_j_per_gb", 1}, {"dram_j_per_gb", 1}, {"platform_w", 1}};
    CHECK(error_of(device) == "d.json: /tiers/0/link/j_per_gb: missing key");
    device["tiers"][0]["link"]["j_per_gb"] = 0.06;
    CHECK(read(device).tiers[0].link.j_per_gb == 0.06);
    Json without = two_tiers();
    without["provenance"]["/energy"] = device["provenance"]["/energy"];
    without["energy"] = device["energy"];
    without["tiers"][0]["link"]["j_per_gb"] = 0.06;
    CHECK(contains(error_of(without), "d.json: /energy/flash_j_per_gb: unknown key"));
    without["energy"].erase("flash_j_per_gb");
    CHECK(read(without).energy.has_value());
  }

  TEST_CASE("a link is a queue of one lane with its latency on the device") {
    const FlashSpec queue = link_queue({25, 10, 0.06});
    CHECK(queue.bw_gbps == 25);
    CHECK(queue.dev_cmd_us == 10);
    CHECK(queue.host_delay_us == 0);
    CHECK(queue.copy_gbps == 0);
    CHECK(queue.lanes == 1);
    CHECK(queue.qd_limit == 1);
    CHECK(queue.noise_sigma == 0);
  }
}

}  // namespace moesim::test
