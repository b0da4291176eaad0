// The flash values of a device file out of the measured reads of a machine.
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "calibration/flash_fit.h"
#include "calibration/machine_measure.h"
#include "hardware/device.h"

namespace moesim {

struct MachineFlash {
  FlashSpec spec;
  double rms = 0;  // of the fitted cells, as log(simulated / measured)
  // The same of all random blocking cells, small reads included.
  double rms_all = 0;
  std::size_t fitted_cells = 0;
  FlashTable table;  // all random blocking cells
};

// Points {KiB, GB/s} of small_read_curve: what the device served at most of the sizes below those
// that `spec` was fitted to, where the queue model would be faster by more than 5 %; then the point
// where the curve ends, which is the next size at the rate of the queue model. Empty where the
// model is not faster anywhere. REQUIRES: spec.small_read_curve empty.
std::vector<std::pair<double, double>> small_read_curve(const FlashTable& table,
                                                        const FlashSpec& spec);

// The smallest number of lanes that comes within 3 % of the best over the reads of 256 KiB and
// more (of all, where there are none). REQUIRES: a table.
std::size_t best_lanes(const FlashTable& table);

// Standard deviation of the logarithm, by the quartiles, so that single outliers do not count.
// 0 for none.
double log_normal_sigma(const std::vector<double>& deviations);

// UserError where there are too few cells to fit. The copy rate is taken where there is an error of
// more than 1 % and it lowers that by a tenth. A page fault brings in 128 KiB at most: where fewer
// are counted, its time is the share of that.
MachineFlash fit_machine_flash(const MachineMeasurements& measured);

}  // namespace moesim
