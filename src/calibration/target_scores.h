// Measured against simulated: errors, contrasts and what they come to. Numbers in, numbers out.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "calibration/targets.h"
#include "config/json_file.h"

namespace moesim {

// Token by token, where both are known in the order of the run.
struct PerTokenError {
  std::size_t tokens = 0;
  double median_abs = 0;   // of simulated / measured - 1 of the wall time
  double mape = 0;         // mean of the same
  double correlation = 0;  // Pearson
};

// REQUIRES: as many of both, at least two, measured ones above 0.
PerTokenError per_token_error(const std::vector<double>& measured,
                              const std::vector<double>& simulated);

// What became of one row. `simulated` is null where it could not be simulated, and `reason` says
// why; beside a simulation it says why there is no comparison token by token.
struct TargetResult {
  TargetRow row;
  Json simulated;  // the keys of row.measured; null where this program has no such number
  Json error;      // likewise: simulated / measured - 1; points for hit rates; and io_ms_per_mib
  Json band;       // likewise: [low, high] of a few, over the uncertainties of the device
  bool fitted = false;             // values of the device were fitted to it: not counted
  std::string standin;             // what stands in for its routing and its prefetch; "": nothing
  std::vector<std::string> notes;  // settings that the device cannot have, and what they became
  std::string reason;
  std::optional<PerTokenError> per_token;
};

// simulated / measured - 1 for every number that both have, nested alike. Rates in percent (keys
// ending in hit_pct) give the difference in points instead.
Json target_errors(const Json& measured, const Json& simulated);

struct ContrastResult {
  TargetContrast contrast;
  std::optional<double> simulated_pct;  // none where a row or its metric is missing
  std::optional<bool> sign_right;
};

std::vector<ContrastResult> score_contrasts(const std::vector<TargetContrast>& contrasts,
                                            const std::vector<TargetResult>& rows);

// Errors of some rows together.
struct GroupScore {
  std::string name;
  std::size_t rows = 0;
  std::optional<double> median_abs_wall;  // of mean decode time
  std::optional<double> largest_abs_wall;
  std::optional<double> median_abs_io;
  std::optional<double> median_abs_io_per_mib;
  std::optional<double> median_abs_compute;
};

struct TargetSummary {
  GroupScore all;
  std::vector<GroupScore> by_state;
  std::vector<GroupScore> by_group;
  std::size_t fitted = 0;
  std::size_t not_simulated = 0;
  std::size_t scored_contrasts = 0;
  std::size_t right_signs = 0;
  std::optional<double> largest_hit_difference;  // points, rows with their own routing
};

// All of it: the result of sim validate --targets.
struct TargetValidation {
  std::string targets;  // as written
  std::vector<std::string> devices;
  std::vector<TargetResult> rows;  // in the order of the file
  std::vector<ContrastResult> contrasts;
  TargetSummary summary;
};

// Rows that were fitted to or not simulated count only as such.
TargetSummary summarise(const std::vector<TargetResult>& rows,
                        const std::vector<ContrastResult>& contrasts);

}  // namespace moesim
