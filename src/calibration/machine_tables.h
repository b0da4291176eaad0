// What was measured, as it stands in the key `calibration` of a device file.
#pragma once

#include "calibration/machine_flash.h"
#include "calibration/machine_kernels.h"
#include "calibration/machine_measure.h"
#include "config/json_file.h"

namespace moesim {

// Five significant digits, because no measurement has more.
double significant(double value);

Json calibration_tables(const MachineMeasurements& measured, const MachineKernels& kernels,
                        const MachineFlash& flash);

}  // namespace moesim
