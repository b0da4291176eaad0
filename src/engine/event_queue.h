// The future-event list. Events fire in (time, sequence) order: ties break by scheduling order, so
// equal inputs give equal runs.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <variant>
#include <vector>

#include "core/errors.h"
#include "core/units.h"

namespace moesim {

template <class Event>
class EventQueue {
 public:
  [[nodiscard]] TimePoint now() const { return now_; }
  [[nodiscard]] bool empty() const { return entries_.empty(); }
  void reserve(std::size_t events) { entries_.reserve(events); }

  void schedule(Duration delay, const Event& event) {
    if (delay < Duration::zero()) throw InvariantError("event scheduled in the past");
    if (delay > TimePoint::max() - now_) {
      throw UserError("the run: expected at most 106 days of simulated time, got more");
    }
    entries_.push_back({now_ + delay, next_sequence_++, event});
    std::push_heap(entries_.begin(), entries_.end(), &later);
  }

  // Advances the clock to the earliest event and removes it. REQUIRES: !empty().
  Event pop() {
    std::pop_heap(entries_.begin(), entries_.end(), &later);
    const Entry entry = entries_.back();
    entries_.pop_back();
    now_ = entry.at;
    return entry.event;
  }

 private:
  struct Entry {
    TimePoint at;
    std::uint64_t sequence;
    Event event;
  };
  static bool later(const Entry& a, const Entry& b) {
    return a.at != b.at ? a.at > b.at : a.sequence > b.sequence;
  }

  std::vector<Entry> entries_;
  TimePoint now_{};
  std::uint64_t next_sequence_ = 0;
};

// Runs `model` until `done()` or until no event is left. The model has one on(event) per event
// type; a missing one is a compile error.
template <class Event, class Model, class Done>
void run_events(EventQueue<Event>& queue, Model& model, Done&& done) {
  while (!done() && !queue.empty()) {
    const Event event = queue.pop();
    std::visit([&](const auto& e) { model.on(e); }, event);
  }
}

}  // namespace moesim
