// The largest values of a series whose length is known before it begins: enough for its 95th
// percentile by nearest rank, element ceil(0.95 n) of the sorted values counted from one, in a
// twentieth of the memory.
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <vector>

#include "core/errors.h"

namespace moesim {

class UpperTail {
 public:
  // At most `most` values will be added. All memory is taken here.
  explicit UpperTail(std::size_t most) : kept_(place_from_top(most)) { heap_.reserve(kept_); }

  void add(double value) {
    ++added_;
    if (heap_.size() < kept_) {
      heap_.push_back(value);
    } else if (value > heap_.front()) {
      std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
      heap_.back() = value;
    } else {
      return;
    }
    std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
  }

  void clear() {
    heap_.clear();
    added_ = 0;
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
  // Which of the values in descending order, counted from one, is element ceil(0.95 n) of the
  // ascending ones.
  static std::size_t place_from_top(std::size_t n) { return n / 20 + 1; }

  std::size_t kept_;
  std::size_t added_ = 0;
  std::vector<double> heap_;  // the smallest of the kept values in front
};

}  // namespace moesim
