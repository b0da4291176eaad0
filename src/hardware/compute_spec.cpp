#include "hardware/compute_spec.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "hardware/interpolate.h"

namespace moesim {
namespace {

// Wide enough for any device and far from where integer rates and times would become 0 or overflow.
constexpr NumberRange kRate{1e-6, 1e6};         // GB/s
constexpr NumberRange kMicroseconds{0.0, 1e9};  // up to 1000 s
constexpr NumberRange kClock{1e-3, 1e3};        // GHz
constexpr std::uint64_t kMostThreads = 4096;
constexpr std::size_t kMostAgents = 8;  // more than any machine has; they are counted in a byte

// Keys such as "q4_kernel_gbps".
KernelRates read_kernel_rates(Section& section) {
  const std::string suffix = "_kernel_gbps";
  KernelRates rates;
  for (const char* format : {"f16", "q8", "q4"}) section.know(format + suffix);
  for (const auto& item : section.json().items()) {
    const std::string& key = item.key();
    if (!key.ends_with(suffix)) continue;
    const std::string format = key.substr(0, key.size() - suffix.size());
    if (is_weight_format(format)) rates[format] = section.number(key, kRate);
  }
  return rates;
}

std::vector<CoreGroup> read_cores(Section& cpu) {
  std::vector<CoreGroup> cores;
  cpu.accept("cores");
  cpu.know("cores");
  if (!cpu.has("cores")) return cores;
  const Json& list = cpu.raw("cores");
  if (!list.is_array() || list.empty()) {
    throw cpu.error("cores", "expected an array of {\"count\", \"ghz\"}, got " + list.dump());
  }
  cores.reserve(list.size());
  for (std::size_t i = 0; i < list.size(); ++i) {
    Section group(list[i], cpu.file(), fmt::format("{}/cores/{}", cpu.pointer(), i));
    CoreGroup read;
    read.count = group.integer("count", 1, kMostThreads);
    read.ghz = group.number("ghz", kClock);
    group.reject_unread_keys();
    cores.push_back(read);
  }
  return cores;
}

bool is_thread_rate(const Json& point, double least) {
  return point.is_array() && point.size() == 2 && point[0].is_number() && point[1].is_number() &&
         point[0].get<double>() > least && point[0].get<double>() <= kMostThreads &&
         kRate.contains(point[1].get<double>());
}

// [[threads, rate], ...] with rising threads.
std::vector<std::pair<double, double>> read_thread_scaling(Section& cpu) {
  std::vector<std::pair<double, double>> scaling;
  cpu.accept("thread_scaling");
  cpu.know("thread_scaling");
  if (!cpu.has("thread_scaling")) return scaling;
  const Json& table = cpu.raw("thread_scaling");
  bool right = table.is_array() && !table.empty();
  scaling.reserve(table.size());
  for (std::size_t i = 0; right && i < table.size(); ++i) {
    right = is_thread_rate(table[i], scaling.empty() ? 0.0 : scaling.back().first);
    if (right) scaling.emplace_back(table[i][0].get<double>(), table[i][1].get<double>());
  }
  if (!right) {
    throw cpu.error(
        "thread_scaling",
        "expected [[threads, rate], ...] with rising threads and rates > 0, got " + table.dump());
  }
  return scaling;
}

// From nothing to the first point, and from there as any curve.
double rate_at(std::vector<std::pair<double, double>> points, double threads) {
  points.insert(points.begin(), {0.0, 0.0});
  return interpolate(points, threads);
}

}  // namespace

bool is_weight_format(const std::string& name) {
  if (name == "f16" || name == "f32") return true;
  if (name.size() < 2 || name.size() > 3 || name[0] != 'q') return false;
  const std::string bits = name.substr(1);
  const bool digits =
      std::all_of(bits.begin(), bits.end(), [](char c) { return c >= '0' && c <= '9'; });
  return digits && bits[0] != '0' && std::stoi(bits) < 16;
}

std::size_t CpuSpec::core_count() const {
  std::size_t count = 0;
  for (const CoreGroup& group : cores) count += group.count;
  return count;
}

double CpuSpec::thread_share(std::size_t used) const {
  const auto wanted = static_cast<double>(used);
  const auto measured = static_cast<double>(threads);
  // The hardware reference knows that a device's own thread count is its optimum, section 3.1.
  if (thread_scaling.empty()) return std::min(1.0, wanted / measured);
  return rate_at(thread_scaling, wanted) / rate_at(thread_scaling, measured);
}

CpuSpec read_cpu(Section section) {
  CpuSpec cpu;
  cpu.threads = section.integer("threads", 1, kMostThreads);
  cpu.layer_overhead_us =
      section.number_or("layer_overhead_us", cpu.layer_overhead_us, kMicroseconds);
  section.know("clock_ghz");
  section.accept("clock_ghz");
  if (section.has("clock_ghz")) cpu.clock_ghz = section.number("clock_ghz", kClock);
  cpu.kernel_gbps = read_kernel_rates(section);
  cpu.cores = read_cores(section);
  cpu.thread_scaling = read_thread_scaling(section);
  section.know("kernel_model");
  if (const auto model = section.optional_object("kernel_model")) {
    cpu.kernel_model = read_kernel_model(*model);
  }
  return cpu;
}

std::map<std::string, AgentSpec> read_agents(Section& device) {
  std::map<std::string, AgentSpec> agents;
  auto section = device.optional_object("agents");
  if (!section) return agents;
  if (section->json().size() > kMostAgents) {
    throw device.error("agents", fmt::format("expected at most {} agents, got {}", kMostAgents,
                                             section->json().size()));
  }
  for (const auto& item : section->json().items()) {
    if (item.key() == kCpuAgent) {
      throw section->error(item.key(),
                           "expected agents beside the CPU, which has a key of its own");
    }
    Section entry = section->object(item.key());
    AgentSpec& agent = agents[item.key()];
    agent.dram_gbps = entry.number("dram_gbps", kRate);
    agent.launch_us = entry.number_or("launch_us", agent.launch_us, kMicroseconds);
    agent.sync_us = entry.number_or("sync_us", agent.sync_us, kMicroseconds);
    agent.kernel_gbps = read_kernel_rates(entry);
    entry.know("j_per_gb");
    entry.accept("j_per_gb");
    if (entry.has("j_per_gb")) agent.j_per_gb = entry.number("j_per_gb", kNonNegative);
  }
  return agents;
}

}  // namespace moesim
