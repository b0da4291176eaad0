#include "engine/compute_options.h"

#include <string>
#include <vector>

#include "hardware/thermal.h"

namespace moesim {
namespace {

constexpr NumberRange kClock{1e-3, 1e3};  // GHz

// What everything that follows the clock is told relative to.
double reference_clock(const Section& section, const std::string& key, const Device& device) {
  if (device.cpu.clock_ghz) return *device.cpu.clock_ghz;
  throw section.error(key, "expected none, because the device " + device.name +
                               " has no cpu.clock_ghz, at which its rates would hold");
}

// The clock that the run is held at; none where the key is absent.
std::optional<double> read_clock(Section& section, const std::optional<Device>& device,
                                 ExecutionOptions& execution) {
  section.know("clock_ghz");
  section.accept("clock_ghz");
  if (!section.has("clock_ghz")) return std::nullopt;
  const double clock = section.number("clock_ghz", kClock);
  if (!device) throw section.error("clock_ghz", "expected none without a device");
  execution.clock = clock / reference_clock(section, "clock_ghz", *device);
  return clock;
}

bool knows_heat(const std::optional<Device>& device) {
  return device && device->thermal && device->thermal->is_complete() && device->cpu.clock_ghz;
}

ThermalStart read_start(Section& section, const std::optional<Device>& device, bool holds_clock) {
  section.accept("thermal");
  section.know("thermal");
  if (!section.has("thermal")) {
    return knows_heat(device) && !holds_clock ? ThermalStart::kCold : ThermalStart::kOff;
  }
  const ThermalStart start =
      thermal_start(section.choice("thermal", {"off", "cold", "warm", "sustained"}));
  if (start == ThermalStart::kOff) return start;
  if (holds_clock) {
    throw section.error("thermal", "expected off, because clock_ghz holds the clock");
  }
  if (!device) throw section.error("thermal", "expected off without a device");
  if (!device->thermal || !device->thermal->is_complete()) {
    throw section.error("thermal", "expected off, because the device " + device->name +
                                       " has no thermal.caps_heat, without which nobody knows "
                                       "when its clock falls");
  }
  reference_clock(section, "thermal", *device);
  return start;
}

std::string read_agent(Section& agents, const std::string& key,
                       const std::optional<Device>& device) {
  std::vector<std::string> names{kCpuAgent};
  if (device) {
    for (const auto& [name, agent] : device->agents) names.push_back(name);
  }
  return agents.choice_or(key, kCpuAgent, names);
}

}  // namespace

void read_compute_options(const std::optional<Section>& section, const Section& root,
                          const std::optional<Device>& device, ExecutionOptions& execution,
                          Json& resolved) {
  Section keys = section.value_or(Section(Json::object(), root.file(), "/execution"));
  const std::optional<double> clock = read_clock(keys, device, execution);
  execution.clock_ghz = clock;
  execution.thermal = read_start(keys, device, clock.has_value());
  if (auto agents = keys.optional_object("agents")) {
    execution.dense_agent = read_agent(*agents, "dense", device);
    execution.expert_agent = read_agent(*agents, "experts", device);
  }
  resolved["clock_ghz"] = clock ? Json(*clock) : Json(nullptr);
  if (!clock && execution.thermal == ThermalStart::kOff && device && device->cpu.clock_ghz) {
    resolved["clock_ghz"] = *device->cpu.clock_ghz;
  }
  resolved["thermal"] = to_string(execution.thermal);
  resolved["agents"] = {{"dense", execution.dense_agent}, {"experts", execution.expert_agent}};
}

}  // namespace moesim
