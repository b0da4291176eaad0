// A binary heap over dense ids whose priorities can change: the ranking of victims.
//
// The id that `Before` orders first is on top. All memory is taken by the constructor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace moesim {

// `Before(a, b)` is a strict total order of priorities; ids break no ties, so put the id into the
// priority where the order of equals matters.
template <class Priority, class Before>
class IndexedHeap {
 public:
  // Ids are 0 .. ids-1.
  explicit IndexedHeap(std::size_t ids) : place_(ids, kAbsent), priority_(ids) {
    heap_.reserve(ids);
  }

  [[nodiscard]] bool empty() const { return heap_.empty(); }
  [[nodiscard]] std::size_t size() const { return heap_.size(); }
  [[nodiscard]] bool contains(std::size_t id) const { return place_[id] != kAbsent; }
  [[nodiscard]] std::size_t top() const { return heap_.front(); }
  [[nodiscard]] const Priority& priority(std::size_t id) const { return priority_[id]; }

  // Inserts `id`, or gives it a new priority. O(log n).
  void set(std::size_t id, const Priority& priority) {
    priority_[id] = priority;
    if (!contains(id)) {
      place_[id] = static_cast<std::uint32_t>(heap_.size());
      heap_.push_back(static_cast<std::uint32_t>(id));
    }
    sift_down(sift_up(place_[id]));
  }

  // Removes `id` if it is there. O(log n).
  void erase(std::size_t id) {
    const std::uint32_t place = place_[id];
    if (place == kAbsent) return;
    const std::uint32_t last = heap_.back();
    heap_.pop_back();
    place_[id] = kAbsent;
    if (place < heap_.size()) {
      heap_[place] = last;
      place_[last] = place;
      sift_down(sift_up(place));
    }
  }

  void clear() {
    for (const std::uint32_t id : heap_) place_[id] = kAbsent;
    heap_.clear();
  }

 private:
  static constexpr std::uint32_t kAbsent = 0xFFFFFFFFU;

  [[nodiscard]] bool before(std::uint32_t a, std::uint32_t b) const {
    return Before{}(priority_[heap_[a]], priority_[heap_[b]]);
  }
  void swap_places(std::uint32_t a, std::uint32_t b) {
    std::swap(heap_[a], heap_[b]);
    place_[heap_[a]] = a;
    place_[heap_[b]] = b;
  }
  std::uint32_t sift_up(std::uint32_t place) {
    while (place > 0 && before(place, (place - 1) / 2)) {
      swap_places(place, (place - 1) / 2);
      place = (place - 1) / 2;
    }
    return place;
  }
  void sift_down(std::uint32_t place) {
    for (;;) {
      std::uint32_t best = place;
      for (std::uint32_t child = 2 * place + 1; child <= 2 * place + 2; ++child) {
        if (child < heap_.size() && before(child, best)) best = child;
      }
      if (best == place) return;
      swap_places(place, best);
      place = best;
    }
  }

  std::vector<std::uint32_t> heap_;
  std::vector<std::uint32_t> place_;  // [ids], position in heap_
  std::vector<Priority> priority_;    // [ids]
};

}  // namespace moesim
