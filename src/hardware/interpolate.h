// The value between the points of a device file's curve.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

namespace moesim {

// The value at `at`, straight between points of rising x and constant outside of them; `x` and `y`
// take a point. REQUIRES: points.
template <class Points, class X, class Y>
double interpolate(const Points& points, double at, const X& x, const Y& y) {
  if (at <= x(points.front())) return y(points.front());
  if (at >= x(points.back())) return y(points.back());
  const auto above =
      std::find_if(points.begin(), points.end(), [&](const auto& point) { return x(point) >= at; });
  const auto below = above - 1;
  const double share = (at - x(*below)) / (x(*above) - x(*below));
  return y(*below) + share * (y(*above) - y(*below));
}

inline double interpolate(const std::vector<std::pair<double, double>>& points, double at) {
  return interpolate(
      points, at, [](const auto& point) { return point.first; },
      [](const auto& point) { return point.second; });
}

}  // namespace moesim
