// How far the stated uncertainties of a device move the numbers of a row.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "config/json_file.h"

namespace moesim {

// A configuration that differs in one uncertain value of the device, up or down.
struct BandCase {
  std::string what;  // the pointer in the device file, or the clock
  Json config;
};

// Two cases for every number of the device whose provenance states a spread (times 1 + spread and
// 1 - spread), likewise for flash.bw_gbps (0.11) and kernel rates (0.15) that state none, and the
// clock one step of thermal.caps_ghz up and down, as far as there are steps.
std::vector<std::vector<BandCase>> band_cases(const Json& config, const Json& device);

// [low, high] for each number of `numbers` that `wanted` names (dotted): the furthest deviations of
// every uncertain value, added in quadrature on each side. `runs[i]` are the numbers of case group
// i.
Json combine_band(const Json& numbers, const std::vector<std::vector<Json>>& runs,
                  const std::vector<std::string>& wanted);

}  // namespace moesim
