// Repeated measurements of several things: in turns, so that what drifts on a shared machine
// touches all of them alike, and summed up by medians, so that outliers do not matter.
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

namespace moesim {

struct Summary {
  double median = 0;
  double spread = 0;  // interquartile range / median; 0 where the median is 0
  std::size_t repetitions = 0;
  // Of the samples, one beyond twice the median counted as that: what many repetitions take
  // together, the usual interruptions included, and not what another program took.
  double mean = 0;
};

// The value below which the share `q` of the samples lies, straight between neighbours.
// REQUIRES: at least one sample, 0 <= q <= 1.
double quantile(std::vector<double> samples, double q);

// REQUIRES: at least one sample.
Summary summarise(const std::vector<double>& samples);

struct TurnLimits {
  double budget_s = 1;           // begins no further round when it is used up
  std::size_t least_rounds = 3;  // measured all the same, unless that takes three times the budget
  std::size_t most_rounds = 1000;
};

// Measures everything once per round, in an order that differs from round to round and depends on
// nothing else, until the time is used. Each has at least one sample. `now_s`: a clock that does
// not go back. `tick` is called after every measurement.
std::vector<std::vector<double>> measure_in_turns(
    const std::vector<std::function<double()>>& measurements, const TurnLimits& limits,
    const std::function<double()>& now_s, const std::function<void()>& tick);

}  // namespace moesim
