// Measured rows that simulations are compared with: one engine on one device, one row a run.
//
// The file is JSON with "schema": "phone-measurements/1": `rows` (settings, state of the device and
// what was measured) and `contrasts` (two rows that differ in one thing). Keys that are not read
// here are kept out of the way: the format is somebody else's and may grow. A null means that
// something was not recorded; a row whose sizes are null is read, but cannot be simulated.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "config/section.h"

namespace moesim {

struct TargetRow {
  std::string place;  // "FILE: /rows/3", for messages
  std::string id;
  std::string set;
  std::string role;
  std::string group;  // rows of one model
  std::string file;   // per-token table, relative to the folder of the targets; "" where none
  std::string device;
  std::string model;
  std::string format;
  std::string
      missing;  // the key of a size that is null; what follows from it is left out; "": none
  std::size_t top_k = 0;
  std::optional<double> cache_mib;  // none: no cache of the application's own
  std::size_t lanes = 0;            // 0: not recorded
  bool overlap = false;
  bool mmap = false;
  Json prefetch;                         // null: none
  std::optional<double> drop_cold_frac;  // none: every selected expert runs
  std::string eviction;                  // "": as the default
  std::string cache_scope;
  std::string expert_layout;         // slices or contiguous
  std::size_t reads_per_expert = 0;  // 0: not recorded
  std::string dense_policy;          // mmap, warm, anon, ahwb
  std::size_t threads = 0;           // 0: not recorded
  std::size_t tokens = 0;
  std::size_t prompt_tokens = 0;
  std::size_t tokens_dropped = 0;  // decoded tokens at the start that no statistic contains
  std::size_t layers = 0;          // with experts
  std::size_t experts = 0;         // per layer
  // Bytes of one expert, and how many layers have experts of that size.
  std::vector<std::pair<std::uint64_t, std::size_t>> expert_bytes;
  std::uint64_t dense_bytes = 0;  // per token, layers without their experts
  std::uint64_t head_bytes = 0;   // per token
  std::string route_trace;        // this run's own routing, relative to the traces; "" where none
  std::string state;              // cool, hot, pressure, unknown
  std::map<std::string, double> sensors;
  Json measured;  // as it stands: numbers and nulls, nested
};

struct TargetContrast {
  std::string id;
  std::string what;
  std::string a;  // ids of rows; the effect is b / a - 1
  std::string b;
  std::string metric;  // a key of `measured`, with dots
  double effect_pct = 0;
  bool score = false;  // fit for a test of its sign
};

struct TargetFile {
  std::string shown;
  std::vector<TargetRow> rows;
  std::vector<TargetContrast> contrasts;
};

// Reads and checks a file. Throws UserError with file, JSON pointer, what was expected and got;
// also for two rows with one id and a contrast between rows that are not there.
TargetFile read_targets(const std::string& path, const std::string& shown);

// The number under a dotted key ("wall_ms.p50") of `measured` or of what was simulated; none where
// it is absent or null.
std::optional<double> metric_of(const Json& numbers, const std::string& dotted);

}  // namespace moesim
