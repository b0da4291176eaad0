// Devices with tiers behind the expert cache, for tests of whole runs.
#pragma once

#include <string>

#include "support/scenario.h"

namespace moesim::test {

// The scenario's device with this array of tiers in front of its flash, or, where the last of them
// has no capacity, in place of it.
inline Json device_with_tiers(const std::string& tiers) {
  Json device = scenario_device();
  device["tiers"] = parse_json(tiers, "tiers");
  device["provenance"]["/tiers"] = {{"tag", "estimate"}, {"source", "made up for tests"}};
  for (Json& tier : device["tiers"]) tier["link"]["j_per_gb"] = 0.0625;
  if (!device["tiers"].back().contains("capacity_mib")) {
    device.erase("flash");
    device["provenance"].erase("/flash");
    device["energy"].erase("flash_j_per_gb");
  }
  return device;
}

// Every expert in host DRAM.
inline Json host_device() {
  return device_with_tiers(R"([{"name": "host", "link": {"gbps": 10, "latency_us": 20}}])");
}

// Host DRAM of so many MiB, then flash. An expert of the small model takes 0.75 MiB.
inline Json host_and_flash_device(double mib) {
  Json device = device_with_tiers(
      R"([{"name": "host", "capacity_mib": 1, "link": {"gbps": 10, "latency_us": 20}}])");
  device["tiers"][0]["capacity_mib"] = mib;
  return device;
}

}  // namespace moesim::test
