#include "metrics/device_state.h"

#include <fmt/format.h>

#include <algorithm>

namespace moesim {
namespace {

double joules_per_gb(const Device& device, const std::string& agent) {
  return agent == kCpuAgent ? device.energy->cpu_j_per_gb
                            : device.agents.at(agent).j_per_gb.value();
}

bool knows_agent(const Device& device, const std::string& agent) {
  return agent == kCpuAgent || device.agents.at(agent).j_per_gb.has_value();
}

// Why a run without heat has none, where the device is the reason; "" else.
std::string missing_heat(const Device& device) {
  if (!device.thermal) return "the device has no thermal data";
  if (!device.thermal->is_complete()) {
    return "the device has no thermal.caps_heat, so nobody knows when its clock falls";
  }
  return device.cpu.clock_ghz ? "" : "the device has no cpu.clock_ghz";
}

}  // namespace

void ThermalLog::add(const PassRecord& record) {
  if (record.clock_ghz == 0) return;
  if (first_ghz_ == 0) first_ghz_ = least_ghz_ = record.clock_ghz;
  last_ghz_ = record.clock_ghz;
  least_ghz_ = std::min(least_ghz_, record.clock_ghz);
  heat_ = record.heat;
  const Duration wall = record.end - record.start;
  wall_ += wall;
  if (record.flash_is_derated) hot_ += wall;
}

ThermalResult ThermalLog::result(const Device& device, const ExecutionOptions& execution) const {
  ThermalResult result;
  result.start = execution.thermal;
  if (execution.thermal == ThermalStart::kOff) {
    if (!device.cpu.clock_ghz) return result;
    const double held = execution.clock_ghz.value_or(*device.cpu.clock_ghz);
    result.clock = {held, held, held};
    return result;
  }
  result.clock = {first_ghz_, last_ghz_, least_ghz_};
  result.heat_last = heat_;
  result.flash_derated_share = wall_.count() == 0 ? 0.0 : to_seconds(hot_) / to_seconds(wall_);
  return result;
}

void add_agent_energy(const Device& device, const ExecutionOptions& execution,
                      std::uint64_t dense_bytes, std::uint64_t expert_bytes, double tokens,
                      EnergyResult& energy) {
  const auto add = [&](const std::string& agent, std::uint64_t bytes) {
    energy.by_component[agent] +=
        static_cast<double>(bytes) * 1e-9 * joules_per_gb(device, agent) / tokens;
  };
  if (execution.dense_agent == execution.expert_agent) {
    add(execution.dense_agent, dense_bytes + expert_bytes);
    return;
  }
  add(execution.dense_agent, dense_bytes);
  add(execution.expert_agent, expert_bytes);
}

bool knows_energy(const Device& device, const ExecutionOptions& execution) {
  return device.energy.has_value() && knows_agent(device, execution.dense_agent) &&
         knows_agent(device, execution.expert_agent);
}

std::vector<std::string> device_notes(const Device& device, const ExecutionOptions& execution) {
  std::vector<std::string> notes;
  const std::string heat = missing_heat(device);
  if (execution.thermal == ThermalStart::kOff && !heat.empty()) {
    notes.push_back("heat is not simulated: " + heat);
  }
  if (!device.energy) {
    notes.emplace_back("energy is not simulated: the device has no energy data");
    return notes;
  }
  for (const std::string& agent : {execution.dense_agent, execution.expert_agent}) {
    if (knows_agent(device, agent)) continue;
    notes.push_back(
        fmt::format("energy is not simulated: the device has no j_per_gb of its {}", agent));
    break;
  }
  return notes;
}

}  // namespace moesim
