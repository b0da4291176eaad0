#include "calibration/box_search.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

namespace moesim {
namespace {

using Point = std::vector<double>;
using Objective = std::function<double(const Point&)>;

constexpr std::size_t kCellsPerAxis = 10;
constexpr std::size_t kBasins = 12;
constexpr std::size_t kMostSteps = 400;
constexpr std::size_t kMostRestarts = 12;
// A run ends where the scores of its simplex agree to this share; a restart has to gain as much.
constexpr double kTolerance = 1e-7;

struct Scored {
  double score = 0;
  Point point;
};

bool lower(const Scored& a, const Scored& b) { return a.score < b.score; }

double cell_width(const Box& box, std::size_t axis) {
  return (box.high[axis] - box.low[axis]) / kCellsPerAxis;
}

// The objective at every cell centre; the first axis varies fastest.
std::vector<Scored> score_grid(const Box& box, const Objective& objective) {
  std::size_t count = 1;
  for (std::size_t axis = 0; axis < box.low.size(); ++axis) count *= kCellsPerAxis;
  std::vector<Scored> cells(count);
  for (std::size_t cell = 0; cell < count; ++cell) {
    Point point = box.low;
    std::size_t rest = cell;
    for (std::size_t axis = 0; axis < point.size(); ++axis, rest /= kCellsPerAxis) {
      point[axis] += (static_cast<double>(rest % kCellsPerAxis) + 0.5) * cell_width(box, axis);
    }
    cells[cell].score = objective(point);
    cells[cell].point = std::move(point);
  }
  return cells;
}

// Whether no cell beside this one along an axis is better.
bool is_basin(const std::vector<Scored>& cells, std::size_t cell) {
  for (std::size_t stride = 1; stride < cells.size(); stride *= kCellsPerAxis) {
    const std::size_t place = cell / stride % kCellsPerAxis;
    if (place > 0 && cells[cell - stride].score < cells[cell].score) return false;
    if (place + 1 < kCellsPerAxis && cells[cell + stride].score < cells[cell].score) return false;
  }
  return true;
}

// The best basins of the grid, best first; at least one.
std::vector<Scored> basins(const Box& box, const Objective& objective) {
  const std::vector<Scored> cells = score_grid(box, objective);
  std::vector<Scored> found;
  for (std::size_t cell = 0; cell < cells.size(); ++cell) {
    if (is_basin(cells, cell)) found.push_back(cells[cell]);
  }
  std::stable_sort(found.begin(), found.end(), lower);
  found.resize(std::min(found.size(), kBasins));
  return found;
}

class Simplex {
 public:
  Simplex(const Box& box, const Objective& objective, const Scored& start, double step)
      : box_(box), objective_(objective), corners_{start} {
    for (std::size_t axis = 0; axis < start.point.size(); ++axis) {
      Point point = start.point;
      const double by = step * cell_width(box, axis);
      point[axis] += point[axis] + by <= box.high[axis] ? by : -by;
      corners_.push_back(scored(std::move(point)));
    }
    sort();
  }

  [[nodiscard]] const Scored& best() const { return corners_.front(); }

  Scored run() {
    for (std::size_t i = 0; i < kMostSteps && !flat(); ++i) step();
    return best();
  }

 private:
  [[nodiscard]] bool flat() const {
    return corners_.back().score - best().score <= kTolerance * std::abs(best().score);
  }
  void sort() { std::stable_sort(corners_.begin(), corners_.end(), lower); }

  Scored scored(Point point) const {
    for (std::size_t i = 0; i < point.size(); ++i) {
      point[i] = std::clamp(point[i], box_.low[i], box_.high[i]);
    }
    const double score = objective_(point);
    return {score, std::move(point)};
  }

  // The point `factor` times as far from the centre of the other corners as the worst one, on the
  // other side where `factor` is positive.
  [[nodiscard]] Scored beyond_centre(double factor) const {
    const Point& worst = corners_.back().point;
    Point point(worst.size());
    for (std::size_t i = 0; i < point.size(); ++i) {
      double centre = 0;
      for (std::size_t c = 0; c + 1 < corners_.size(); ++c) centre += corners_[c].point[i];
      centre /= static_cast<double>(corners_.size() - 1);
      point[i] = centre + factor * (centre - worst[i]);
    }
    return scored(std::move(point));
  }

  void step() {
    const Scored reflected = beyond_centre(1.0);
    if (lower(reflected, best())) {
      corners_.back() = std::min(reflected, beyond_centre(2.0), lower);
    } else if (lower(reflected, corners_[corners_.size() - 2])) {
      corners_.back() = reflected;
    } else {
      const Scored contracted = beyond_centre(lower(reflected, corners_.back()) ? 0.5 : -0.5);
      if (lower(contracted, std::min(reflected, corners_.back(), lower))) {
        corners_.back() = contracted;
      } else {
        shrink();
      }
    }
    sort();
  }

  void shrink() {
    for (std::size_t c = 1; c < corners_.size(); ++c) {
      Point point = corners_[c].point;
      for (std::size_t i = 0; i < point.size(); ++i) {
        point[i] = 0.5 * (point[i] + best().point[i]);
      }
      corners_[c] = scored(std::move(point));
    }
  }

  const Box& box_;
  const Objective& objective_;
  std::vector<Scored> corners_;  // [values + 1], best first
};

// A simplex can collapse on a kink before the minimum; a fresh one around its end goes on.
Scored walk_down(const Box& box, const Objective& objective, Scored at) {
  double step = 0.5;
  for (std::size_t restart = 0; restart < kMostRestarts && step > 0.01; ++restart) {
    Scored next = Simplex(box, objective, at, step).run();
    if (at.score - next.score <= kTolerance * std::abs(at.score)) step /= 4;
    if (lower(next, at)) at = std::move(next);
  }
  return at;
}

}  // namespace

Point minimise_in_box(const Box& box, const Objective& objective) {
  std::vector<Scored> found = basins(box, objective);
  for (Scored& basin : found) basin = walk_down(box, objective, std::move(basin));
  return std::min_element(found.begin(), found.end(), lower)->point;
}

}  // namespace moesim
