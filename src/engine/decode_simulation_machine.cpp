// The state of the machine during a run: its heat, the cores that lanes take, and which agent
// works.
#include "engine/decode_simulation.h"

namespace moesim {

// Only where threads and lanes can be more than the cores: lanes that submit reads ahead of time
// (asynchronously) hold no core.
void DecodeSimulation::watch_cores() {
  const std::size_t cores = parts_.device->cpu.core_count();
  const ExecutionOptions& execution = parts_.execution;
  const bool on_cpu = execution.dense_agent == kCpuAgent || execution.expert_agent == kCpuAgent;
  const auto& flash = parts_.device->flash;
  if (!on_cpu || !flash || flash->submission == Submission::kAsync) return;
  if (!CoreUse::is_needed(cores, execution.threads, execution.lanes)) return;
  cores_ = std::make_unique<CoreUse>(cores, execution.threads, bus_);
  if (execution.overlap != Overlap::kNone) {
    lane_share_ = CoreUse::lane_share(cores, execution.threads, execution.lanes);
  }
  store_.set_core_use(*cores_);
}

// Through a memory map the host's part of a read is that of a page fault, which no clock changes.
void DecodeSimulation::set_clock(double relative) {
  costs_.set_clock(relative);
  if (parts_.execution.read_path == ReadPath::kDirect) store_.set_clock(relative * lane_share_);
  if (parts_.arena != nullptr) parts_.arena->set_clock(relative);
}

void DecodeSimulation::begin_heat() {
  set_clock(parts_.execution.clock);
  if (parts_.execution.thermal == ThermalStart::kOff) return;
  const Device& device = *parts_.device;
  thermal_.emplace(*device.thermal, *device.cpu.clock_ghz, parts_.execution.thermal);
  follow_heat();
}

void DecodeSimulation::follow_heat() {
  set_clock(thermal_->clock());
  store_.set_derate(flash_share());
  if (parts_.arena != nullptr) parts_.arena->set_flash_derate(flash_share());
}

// What flash has left of its rate.
double DecodeSimulation::flash_share() const {
  const auto& flash = parts_.device->flash;
  return flash && thermal_->flash_is_hot() ? flash->hot_derate : 1.0;
}

// Time since the start of the run, prefill included: the device works all the while.
void DecodeSimulation::heat_up() {
  record_.clock_ghz = thermal_->clock_ghz();
  record_.heat = thermal_->heat();
  record_.flash_is_derated = flash_share() < 1;
  if (thermal_->advance(queue_.now().time_since_epoch())) follow_heat();
}

void DecodeSimulation::change_agent(JobRecord& job, const ComputeCost& cost) {
  job.span.fixed += costs_.change_of_agent(agent_, cost.agent);
  agent_ = cost.agent;
}

}  // namespace moesim
