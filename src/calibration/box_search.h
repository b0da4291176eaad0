// A minimum of a function over a box, without derivatives and without random numbers.
//
// A grid finds the basins; from the best of them the downhill simplex method (Nelder and Mead 1965)
// runs, restarted until a restart gains nothing. Made for two to four values and functions with
// kinks; nothing promises the global minimum.
#pragma once

#include <functional>
#include <vector>

namespace moesim {

struct Box {
  std::vector<double> low;
  std::vector<double> high;
};

// Returns the best point found; equal inputs give equal results. Calls `objective` 10^n times for n
// values and then some thousand times. REQUIRES: low.size() == high.size() > 0, low[i] < high[i].
std::vector<double> minimise_in_box(
    const Box& box, const std::function<double(const std::vector<double>&)>& objective);

}  // namespace moesim
