// Two results side by side.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

#include "config/json_file.h"
#include "metrics/bootstrap.h"

namespace moesim {

struct Comparison {
  struct Side {
    std::string source;  // as given on the command line
    Json point;          // of a sweep; null where there is none
  };
  struct Metric {
    std::string pointer;  // in the result
    std::string name;     // for a person, with its unit
    std::optional<double> a;
    std::optional<double> b;
  };
  // A value that differs; absent where one side has no such key.
  struct Difference {
    std::string pointer;
    std::optional<Json> a;
    std::optional<Json> b;
  };
  // Of the difference of the means over tokens.
  struct Interval {
    std::string of;  // "wall_ms" or "misses"
    bool paired = false;
    std::size_t tokens_a = 0;
    std::size_t tokens_b = 0;
    std::uint64_t seed = 1;
    RatioInterval ratio;
  };
  Side a;
  Side b;
  std::vector<Metric> metrics;       // that at least one side has
  std::vector<Difference> config;    // of the resolved configurations
  std::vector<Difference> others;    // program and checksums of inputs
  std::optional<Interval> interval;  // none without tokens
  std::string verdict;
};

// The document moesim.comparison/1 (docs/sweeps.md).
Json comparison_json(const Comparison& comparison);
void write_comparison(const Comparison& comparison, std::ostream& out);

}  // namespace moesim
