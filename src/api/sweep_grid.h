// The points of a sweep: what `--vary` says, and the grid of all combinations.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "config/json_file.h"

namespace moesim {

// One key of the configuration and the values that it takes.
struct SweepAxis {
  std::string pointer;
  std::vector<Json> values;
};

// Reads "/POINTER=A,B,C", "/POINTER=FROM:TO:STEP" (TO included where a step hits it) or
// "/POINTER=[...]", a JSON array of values. A list's values are JSON, a bare word is a string.
// Throws UserError.
SweepAxis read_axis(const std::string& text);

// All combinations, the last axis running fastest.
class SweepGrid {
 public:
  // Throws UserError for axes that contradict each other, for a value given twice and for too many
  // points.
  explicit SweepGrid(std::vector<SweepAxis> axes);

  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] const std::vector<SweepAxis>& axes() const { return axes_; }
  // {"/pointer": value}, one key per axis in their order. REQUIRES: number < size().
  [[nodiscard]] Json point(std::size_t number) const;

 private:
  std::vector<SweepAxis> axes_;
  std::size_t size_ = 1;
};

// The same point as overrides, "/POINTER=VALUE".
std::vector<std::string> overrides_of(const Json& point);
// For a person: "/cache/capacity_mib=250 /routing/policy=top_k".
std::string point_text(const Json& point);

}  // namespace moesim
