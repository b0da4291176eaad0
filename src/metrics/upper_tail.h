// The largest values of a series whose length is known before it begins: enough for its 95th
// percentile by nearest rank, element ceil(0.95 n) of the sorted values counted from one, in a
// twentieth of the memory.
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <limits>
#include <vector>

#include "core/errors.h"

namespace moesim {

class UpperTail {
 public:
  // At most `most` values will be added. All memory is taken here.
  explicit UpperTail(std::size_t most) : kept_(place_from_top(most)) { heap_.reserve(kept_); }

  // `value` is finite.
  void add(double value) {
    ++added_;
    if (value > floor_) keep(value);
  }

  void clear() {
    heap_.clear();
    added_ = 0;
    floor_ = kNoFloor;
  }

  // REQUIRES: at least one value added. Throws InvariantError where more were added than announced.
  [[nodiscard]] double p95() const {
    const std::size_t place = place_from_top(added_);
    if (added_ == 0 || place > kept_) {
      throw InvariantError("a percentile of no values, or of more than were announced");
    }
    std::vector<double> largest = heap_;
    const auto at = largest.begin() + static_cast<std::ptrdiff_t>(place - 1);
    std::nth_element(largest.begin(), at, largest.end(), std::greater<>());
    return *at;
  }

 private:
  static constexpr double kNoFloor = -std::numeric_limits<double>::infinity();

  void keep(double value) {
    if (heap_.size() == kept_) {
      std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
      heap_.pop_back();
    }
    heap_.push_back(value);
    std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
    if (heap_.size() == kept_) floor_ = heap_.front();
  }

  // Which of the values in descending order, counted from one, is element ceil(0.95 n) of the
  // ascending ones.
  static std::size_t place_from_top(std::size_t n) { return n / 20 + 1; }

  std::size_t kept_;
  std::size_t added_ = 0;
  double floor_ = kNoFloor;   // the smallest kept value, once there is room for no more
  std::vector<double> heap_;  // the smallest of the kept values in front
};

}  // namespace moesim
