// A measured row as a configuration of ours: what of its settings, state and sensors goes where.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include "calibration/targets.h"
#include "config/json_file.h"
#include "hardware/device.h"
#include "model/moe_model.h"

namespace moesim {

// A row that this program cannot simulate; what() says why.
struct UnsupportedRow : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A device as text, to be changed, and as what it means.
struct TargetDevice {
  Json text;
  Device device;
};

// A built-in model description by its name.
struct TargetModel {
  std::string name;
  MoeModel model;
};

// The description with the shape of this row: the one of the row's group or name, else the first of
// the same family with as many layers and experts. Throws UnsupportedRow.
TargetModel model_of(const TargetRow& row);

// Selected experts that weigh little may be left out.
inline bool drops_experts(const TargetRow& row) { return row.drop_cold_frac.value_or(0) > 0; }

// A row's configuration and where it is not what the row says.
struct TargetConfig {
  Json config;
  std::string standin;             // of the row's prefetch; "" where it is its own
  std::vector<std::string> notes;  // settings that the device cannot have, and what they became
};

// The configuration of a row, to be run with the trace `trace_path` and relative to its folder.
// Settings are taken as they are. Of the state: the recorded clock cap is held (the mean of entry
// and exit); a hot device whose clocks were not recorded runs at its sustained clock, with flash as
// it is; under pressure the app may use what was available at the start less the device's reserve;
// dense weights in the page cache are `file` pages. A prefetch that cannot run on the row's trace
// is a noisy oracle. Lanes are cut to the device's qd_limit, a budget of nothing is the dense
// weights, and file pages are anonymous where the device has no mmap_fault_us. No measured time is
// used. Throws UnsupportedRow.
TargetConfig target_config(const TargetRow& row, const TargetDevice& device,
                           const TargetModel& model, const std::string& trace_path);

// How the row's experts lie in their file: contiguous, fused (gate and up together) or slices.
std::string layout_of(const TargetRow& row);

// Bytes of one expert by layer, [layers]: the row's sizes, spread evenly over the depth.
std::vector<std::int64_t> expert_bytes_by_layer(const TargetRow& row);

// `device`: a device file as text. The clock that a device in steady decoding is held at, GHz: the
// cap of its last heat step that is reached at heat 1. None where the device file has no such data.
std::optional<double> sustained_clock_ghz(const Json& device);

}  // namespace moesim
