// A sweep for a person: one row a point.
#pragma once

#include <iosfwd>
#include <optional>
#include <vector>

#include "config/json_file.h"

namespace moesim {

struct SweepRow {
  Json point;
  std::optional<double> tokens_per_s;
  std::optional<double> hit_rate;
  std::optional<double> mib_per_token;
};

// The headline of a line of a sweep's file. Throws Json::exception where it has another form.
SweepRow sweep_row(const Json& line);

void write_sweep_table(const std::vector<SweepRow>& rows, std::ostream& out);

}  // namespace moesim
