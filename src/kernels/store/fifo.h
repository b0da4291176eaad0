// First in, first out, in a ring that grows when it must and never shrinks, so that a queue in
// steady state allocates nothing.
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

namespace moesim {

template <class T>
class Fifo {
 public:
  [[nodiscard]] bool empty() const { return count_ == 0; }
  [[nodiscard]] std::size_t size() const { return count_; }

  void push(T value) {
    if (count_ == ring_.size()) grow();
    ring_[(first_ + count_) % ring_.size()] = std::move(value);
    ++count_;
  }

  // REQUIRES: !empty().
  T pop() {
    T value = std::move(ring_[first_]);
    first_ = (first_ + 1) % ring_.size();
    --count_;
    return value;
  }

  void clear() { count_ = 0; }

 private:
  void grow() {
    std::vector<T> larger(ring_.empty() ? 64 : 2 * ring_.size());
    for (std::size_t i = 0; i < count_; ++i) {
      larger[i] = std::move(ring_[(first_ + i) % ring_.size()]);
    }
    ring_ = std::move(larger);
    first_ = 0;
  }

  std::vector<T> ring_;
  std::size_t first_ = 0;
  std::size_t count_ = 0;
};

}  // namespace moesim
