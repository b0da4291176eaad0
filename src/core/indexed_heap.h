// A binary heap over dense ids whose priorities can change: the ranking of victims.
//
// The id that `Before` orders first is on top. All memory is taken by the constructor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace moesim {

// `Before(a, b)` is a strict total order of priorities; ids break no ties, so put the id into the
// priority where the order of equals matters.
template <class Priority, class Before>
class IndexedHeap {
 public:
  // Ids are 0 .. ids-1.
  explicit IndexedHeap(std::size_t ids) : place_(ids, kAbsent) { heap_.reserve(ids); }

  [[nodiscard]] bool empty() const { return heap_.empty(); }
  [[nodiscard]] std::size_t size() const { return heap_.size(); }
  [[nodiscard]] bool contains(std::size_t id) const { return place_[id] != kAbsent; }
  // REQUIRES: !empty().
  [[nodiscard]] std::size_t top() const { return heap_.front().id; }
  // REQUIRES: contains(id).
  [[nodiscard]] const Priority& priority(std::size_t id) const {
    return heap_[place_[id]].priority;
  }

  // Inserts `id`, or gives it a new priority. O(log n).
  void set(std::size_t id, const Priority& priority) {
    const Node node{priority, static_cast<std::uint32_t>(id)};
    if (!contains(id)) {
      place_[id] = static_cast<std::uint32_t>(heap_.size());
      heap_.push_back(node);
    }
    settle(place_[id], node);
  }

  // Removes `id` if it is there. O(log n).
  void erase(std::size_t id) {
    const std::uint32_t place = place_[id];
    if (place == kAbsent) return;
    const Node last = heap_.back();
    heap_.pop_back();
    place_[id] = kAbsent;
    if (place < heap_.size()) settle(place, last);
  }

  void clear() {
    for (const Node& node : heap_) place_[node.id] = kAbsent;
    heap_.clear();
  }

 private:
  static constexpr std::uint32_t kAbsent = 0xFFFFFFFFU;

  struct Node {
    Priority priority;
    std::uint32_t id;
  };

  void put(std::uint32_t place, const Node& node) {
    heap_[place] = node;
    place_[node.id] = place;
  }

  // Puts `node` where it belongs, beginning at `place`, whose content is given up: the others move
  // into the gap until the node fits in it.
  void settle(std::uint32_t place, const Node& node) {
    while (place > 0 && Before{}(node.priority, heap_[(place - 1) / 2].priority)) {
      put(place, heap_[(place - 1) / 2]);
      place = (place - 1) / 2;
    }
    const auto size = static_cast<std::uint32_t>(heap_.size());
    for (std::uint32_t child = 2 * place + 1; child < size; child = 2 * place + 1) {
      if (child + 1 < size && Before{}(heap_[child + 1].priority, heap_[child].priority)) ++child;
      if (!Before{}(heap_[child].priority, node.priority)) break;
      put(place, heap_[child]);
      place = child;
    }
    put(place, node);
  }

  std::vector<Node> heap_;
  std::vector<std::uint32_t> place_;  // [ids], position in heap_
};

}  // namespace moesim
