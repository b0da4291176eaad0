// The device file of a measured machine: every number with how it was measured and how far its
// repetitions lie apart.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "calibration/machine_flash.h"
#include "calibration/machine_kernels.h"
#include "calibration/machine_measure.h"
#include "config/json_file.h"

namespace moesim {

struct DeviceText {
  std::string name;
  std::string description;
  std::string date;  // YYYY-MM-DD
};

// What is shown of a calibration: a quantity with its unit, its value and, where it has one, its
// spread.
struct CalibrationLine {
  std::string what;
  std::string value;
  std::optional<double> spread;
};

struct CalibratedDevice {
  Json json;
  std::vector<CalibrationLine> lines;
  std::vector<std::string> notes;  // what is missing and why, and what to mind
};

CalibratedDevice calibrated_device(const MachineMeasurements& measured,
                                   const MachineKernels& kernels, const MachineFlash& flash,
                                   const DeviceText& text);

}  // namespace moesim
