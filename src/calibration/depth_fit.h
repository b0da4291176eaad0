// Fits a flash device whose time per read depends on how many reads are in flight
// (flash.dev_cmd_us_by_depth), where one time for all of them does not fit.
//
// Host delay and device time of the plain model give a throughput that rises with the lanes in one
// step; devices behind several queues, interrupts and a hypervisor rise bit by bit, because part of
// the work for one read is hidden behind the others. A server with a rate for each number of reads
// (flow-equivalent server: Chandy, Herzog, Woo, 1975) takes that from the table as it is.
#pragma once

#include "calibration/flash_table.h"
#include "hardware/device.h"

namespace moesim {

// bw_gbps and command_curve, one point for each number of lanes in the table, to 0.001 GB/s and 0.1
// us, with the least root mean square of log(simulated / measured); the rest of `base` stays but
// for the times of the plain model, which are 0. REQUIRES: a table.
FlashSpec fit_by_depth(const FlashTable& table, const FlashSpec& base);

}  // namespace moesim
