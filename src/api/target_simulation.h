// One measured row, simulated: the numbers that were measured, from a run of ours.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "calibration/targets.h"
#include "config/json_file.h"

namespace moesim {

struct SimulatedRow {
  Json numbers;                  // the keys of `measured`, null where there is no such number
  std::vector<double> walls_ms;  // of every decoded token, the dropped ones too
};

// Runs `config` (target_config()) in the folder of its trace. Statistics as the measurements have
// them: the first tokens_dropped decoded tokens left out, percentiles by linear interpolation, io
// as time blocked on reads in serial rows and as lane-busy time with overlap, cache management
// inside compute where the row has none apart. Throws UserError as a run does.
SimulatedRow simulate_row(const TargetRow& row, const Json& config,
                          const std::filesystem::path& folder);

}  // namespace moesim
