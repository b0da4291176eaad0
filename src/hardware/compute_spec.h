// What computes: the CPU with its threads, cores and clock, and agents beside it such as an NPU or
// a GPU. Keys, units and sources: docs/devices.md.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "config/section.h"
#include "hardware/kernel_model.h"

namespace moesim {

// How configurations name the CPU among the agents.
inline constexpr const char* kCpuAgent = "cpu";

// Cores of one kind.
struct CoreGroup {
  std::size_t count = 0;
  double ghz = 0;  // nominal
};

// Weight bytes per second by format: f16, q8, q4, ...
using KernelRates = std::map<std::string, double>;

struct CpuSpec {
  std::size_t threads = 1;            // threads that the kernel rates were measured with
  double layer_overhead_us = 0;       // per layer: barriers, norms, small operators
  KernelRates kernel_gbps;            // of all those threads together
  std::optional<double> clock_ghz;    // at which this device's CPU times and rates hold
  std::vector<CoreGroup> cores = {};  // empty: not stated
  // {threads, rate}, rising threads; the unit of the rate is any. Empty: in proportion up to
  // `threads`, then flat.
  std::vector<std::pair<double, double>> thread_scaling = {};
  // Times of products by shape, for the formats and thread counts that it knows; kernel_gbps holds
  // for the others.
  KernelModel kernel_model = {};

  // All cores together; 0 where they are not stated.
  [[nodiscard]] std::size_t core_count() const;
  // Kernel rate with so many threads over that with `threads`. Linear between the points of
  // thread_scaling and from nothing to the first, constant beyond the last.
  [[nodiscard]] double thread_share(std::size_t used) const;
};

// Something else than the CPU that can multiply. Its rates do not depend on the CPU's clock.
struct AgentSpec {
  double dram_gbps = 0;            // the most that it draws
  double launch_us = 0;            // per operator
  double sync_us = 0;              // when work changes to it or away from it
  KernelRates kernel_gbps;         // a format without a rate is bound by DRAM alone
  std::optional<double> j_per_gb;  // weight bytes through it, DRAM included
};

// Throws UserError with file and pointer.
CpuSpec read_cpu(Section section);
// `agents` of a device file, by name; empty where it has no such key.
std::map<std::string, AgentSpec> read_agents(Section& device);

// A name that kernel rates and weight formats may have: f16, f32, or q and the whole bits, 1 to 15.
bool is_weight_format(const std::string& name);

}  // namespace moesim
