// Simulates every row of a file of measurements and says how far off it is.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "calibration/target_scores.h"

namespace moesim {

struct ValidateTargetsOptions {
  std::string targets;                          // file
  std::string device;                           // name or file; "": each row's own, a built-in one
  std::optional<std::filesystem::path> traces;  // folder of recorded routing; none: ../raw_traces
                                                // of the folder of the targets
  std::vector<std::string> rows;                // ids; empty: all
  bool with_band = true;                        // also over the uncertainties of the device
  // Told before each row: its number from 0, how many there are, and its id.
  std::function<void(std::size_t, std::size_t, const std::string&)> progress;
};

// Throws UserError for a defect of the file, an unknown row id, an unknown or defective
// options.device. A row that cannot be simulated (its device or model has no description, its
// routing is not there or has a defect, its settings contradict each other) is a result with a
// reason.
TargetValidation validate_targets(const ValidateTargetsOptions& options);

}  // namespace moesim
