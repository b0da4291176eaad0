// What a run says about the state of its device: clock and heat during the measured tokens, and
// what could not be simulated because the device file has no data for it.
#pragma once

#include <string>
#include <vector>

#include "engine/run_observer.h"
#include "engine/task_costs.h"
#include "hardware/device.h"
#include "metrics/run_result.h"

namespace moesim {

// Follows the measured passes.
class ThermalLog {
 public:
  void add(const PassRecord& record);
  // Of a run with these options on this device.
  [[nodiscard]] ThermalResult result(const Device& device, const ExecutionOptions& execution) const;

 private:
  double first_ghz_ = 0;  // 0: no pass yet
  double last_ghz_ = 0;
  double least_ghz_ = 0;
  double heat_ = 0;
  Duration wall_{};
  Duration hot_{};
};

// J per token of the weights that went through each agent, by its name. REQUIRES: the device has
// energy, and so has each agent in use.
void add_agent_energy(const Device& device, const ExecutionOptions& execution,
                      std::uint64_t dense_bytes, std::uint64_t expert_bytes, double tokens,
                      EnergyResult& energy);
// Whether what the run takes is known: `energy` of the device, and j_per_gb of agents beside it.
bool knows_energy(const Device& device, const ExecutionOptions& execution);

// Sentences on what was not simulated for want of data.
std::vector<std::string> device_notes(const Device& device, const ExecutionOptions& execution);

}  // namespace moesim
