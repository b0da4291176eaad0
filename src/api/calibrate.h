// From a machine to its device file.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>

#include "calibration/machine_device.h"
#include "calibration/machine_measure.h"

namespace moesim {

struct CalibrateOptions {
  std::filesystem::path out;
  std::filesystem::path dir;  // of the scratch file; empty: the folder of `out`
  std::string name = "this-machine";
  std::string date;  // YYYY-MM-DD
  bool quick = false;
  bool buffered = false;    // fall back to reads through the page cache
  double budget_s = 0;      // 0: as `quick` says
  double max_disk_gib = 0;  // 0: as `quick` says
  double max_memory_gib = 4;
};

// What a calibration of `machine` makes of it. The device has been read back: sim run accepts it.
// Throws UserError for what the machine cannot do.
CalibratedDevice calibrate(MachineProbe& machine, const CalibrationPlan& plan,
                           const DeviceText& text, const ProgressFunction& progress);

// Measures this machine and writes `out`, which appears whole or not at all. Nothing else is left
// behind. UserError, before anything is measured, where the kernels are missing, `out` cannot be
// written, a limit is none, or the folder, its file system or the memory do not do.
CalibratedDevice calibrate(const CalibrateOptions& options, const ProgressFunction& progress);

}  // namespace moesim
