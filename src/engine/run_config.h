// The configuration of one run, read and checked: everything that a JSON object says, before any
// trace is opened. Keys and defaults: docs/config.md.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cache/expert_cache.h"
#include "compression/expert_allocation.h"
#include "config/section.h"
#include "engine/expert_session.h"
#include "engine/initial_contents.h"
#include "engine/memory_config.h"
#include "engine/mixed_precision.h"
#include "engine/task_costs.h"
#include "engine/tier_config.h"
#include "engine/token_schedule.h"
#include "hardware/device.h"
#include "model/moe_model.h"
#include "trace/trace.h"

namespace moesim {

// Exactly one of the three says how much the cache holds.
struct CapacityChoice {
  std::optional<std::uint64_t> experts;  // per layer, or in all where the scope is global
  std::optional<double> fraction;        // of the routed experts, rounded down
  std::optional<double> mib;             // in all; in layer scope split equally in bytes
};

struct CacheConfig {
  CacheScope scope = CacheScope::kLayer;
  CapacityChoice capacity;
  Accounting accounting = Accounting::kEvent;
  TouchOrder touch_order = TouchOrder::kDescending;
  Overflow overflow = Overflow::kTrim;
  CacheReset reset = CacheReset::kNever;
  ColdStart cold_start = ColdStart::kStrict;
  InitialContents initial;
};

struct RunConfig {
  std::string shown;  // how messages call the configuration
  std::filesystem::path trace_path;
  std::string trace_shown;  // as written in the configuration
  ScheduleOptions schedule;
  std::optional<MoeModel> model;
  std::optional<Device> device;  // none: the cache is replayed without time
  // Files that were read beside the trace, as written and as opened.
  struct Input {
    std::string shown;
    std::filesystem::path path;
  };
  std::vector<Input> inputs;
  WeightBits bits;
  CacheConfig cache;
  ExecutionOptions execution;
  std::optional<std::size_t> k;  // routing.k
  Section routing;               // policy and its parameters, defaults filled in
  Section eviction;
  Section prefetch;
  std::vector<TierConfig> tiers;  // of the device, nearest first
  std::uint64_t seed = 1;
  Json resolved;  // every key with the value in force; what --print-config shows
  std::optional<ExpertAllocation> allocation;  // weights.allocation
  MissOptions on_miss;
  MemoryOptions memory;
  std::filesystem::path base_dir{};      // what the paths of this configuration are relative to
  std::shared_ptr<const Trace> trace{};  // already open, in the place of what trace_path names

  // "FILE: /pointer: message" for a place of this configuration.
  [[nodiscard]] UserError error(const std::string& pointer, const std::string& message) const;
};

// Reads a configuration. `base_dir`: the folder that its paths are relative to. `trace`: already
// open; the configuration's path is then a name for it and no file is looked for. Throws UserError.
RunConfig read_run_config(const Json& root, const std::string& shown,
                          const std::filesystem::path& base_dir,
                          std::shared_ptr<const Trace> trace = nullptr);

}  // namespace moesim
