// Files of measured rows, made up: a small run of a built-in model on a built-in device.
#pragma once

#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "api/target_config.h"
#include "calibration/targets.h"
#include "support/shipped.h"
#include "support/testing.h"

namespace moesim::test {

// OLMoE, 16 layers of 64 experts, 4 of them for a token; no cache, 4 lanes, serial.
inline Json measured_row(const std::string& id = "R1") {
  return parse_json(R"({"id": ")" + id + R"(",
    "group": "olmoe-1b-7b", "device": "oneplus-15r", "model": "OLMoE-1B-7B", "format": "Q4_K_M",
    "top_k": 4, "cache_mib": 0, "lanes": 4, "overlap": false, "mmap": false, "prefetch": null,
    "drop_cold_frac": null, "eviction": null, "cache_scope": null, "expert_layout": "slices",
    "reads_per_expert": 3, "dense_policy": "anon", "threads": 4, "tokens": 20, "prompt_tokens": 4,
    "expert_bytes_by_layer_count": [[3000000, 8], [4000000, 8]], "layers": 16, "experts": 64,
    "dense_bytes_per_token": 150000000, "head_bytes_per_token": 60000000, "route_trace": null,
    "state": "cool", "sensors": {"cpu_start_c": 40.5},
    "measured": {"tok_s": 4.0, "io_ms": 200.0, "mib_per_token": 214.4, "hit_pct": null,
                 "wall_ms": {"mean": 250.0, "p50": null}, "tokens_dropped": 5}})",
                    "row");
}

inline Json targets_of(const std::vector<Json>& rows) {
  return {{"schema", "phone-measurements/1"}, {"rows", rows}};
}

// As a file "t.json".
inline TargetFile read_targets_of(const Json& targets) {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder.path() / "t.json";
  std::ofstream(path) << targets.dump();
  return read_targets(path, "t.json");
}

using ChangeRow = std::function<void(Json&)>;

inline TargetRow target_row(const ChangeRow& change = [](Json&) {}) {
  Json row = measured_row();
  change(row);
  return read_targets_of(targets_of({row})).rows.at(0);
}

inline TargetDevice target_device(const std::string& name = "oneplus-15r") {
  const std::filesystem::path path = source_dir() / "configs/devices" / (name + ".json");
  return {read_json_file(path, name), shipped_device(name)};
}

}  // namespace moesim::test
