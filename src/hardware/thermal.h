// Heat: one state per run, which approaches 1 while the device decodes and lowers the clock in
// steps and the flash rate once.
//
//   dh/dt = (1 - h) / tau_s
//
// 0 is a device that has rested, 1 one that has decoded for long. Left out: the temperature in
// degrees, cooling while idle, heat that depends on what is done, clusters of cores with caps of
// their own. Source of the form: hardware reference, section 7.1.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "config/section.h"
#include "core/units.h"

namespace moesim {

enum class ThermalStart : std::uint8_t { kOff, kCold, kWarm, kSustained };
const char* to_string(ThermalStart start);
// off, cold, warm or sustained. REQUIRES: one of these.
ThermalStart thermal_start(const std::string& name);

struct ThermalSpec {
  double tau_s = 0;
  std::vector<double> caps_ghz;   // not rising
  std::vector<double> caps_heat;  // the heat from which each holds, not falling; empty: not known
  double flash_heat = 1;          // from here on flash.hot_derate applies
  // Whether heat can be simulated: without caps_heat nobody knows when a cap holds.
  [[nodiscard]] bool is_complete() const { return !caps_heat.empty(); }
};

// Throws UserError with file and pointer.
ThermalSpec read_thermal(Section section);

class ThermalState {
 public:
  // `clock_ghz`: of the device when no cap holds. REQUIRES: a complete spec that outlives this, and
  // another start than kOff.
  ThermalState(const ThermalSpec& spec, double clock_ghz, ThermalStart start);

  // The device has decoded for `elapsed` since the start of the run. Returns whether the clock or
  // what happens to flash changed. Heat follows from the whole time at once, so it does not depend
  // on how the run is divided.
  bool advance(Duration elapsed);

  // Below 1 unless the start was kSustained.
  [[nodiscard]] double heat() const { return heat_; }
  [[nodiscard]] double clock_ghz() const { return clock_ghz_; }
  // Clock in force over that of the device.
  [[nodiscard]] double clock() const { return clock_ghz_ / nominal_ghz_; }
  [[nodiscard]] bool flash_is_hot() const { return heat_ >= spec_.flash_heat; }

 private:
  void apply();

  const ThermalSpec& spec_;
  double nominal_ghz_;
  double start_heat_;
  double heat_;
  double clock_ghz_;
};

}  // namespace moesim
