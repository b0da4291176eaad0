// The accesses of a whole run, known in advance: what offline-optimal policies look into.
//
// An event is one layer visit, or the union pass of a prefill over one layer; events are numbered
// in the order in which the cache sees them (ExpertCache::events() before the event). What is
// written down may be the executed or the native selections, but the event numbers must be those
// of the cache that asks: the same visits in the same order. Only a routing that does not look at
// the cache has such a future.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "core/ids.h"

namespace moesim {

class FutureAccesses {
 public:
  static constexpr std::uint32_t kNever = std::numeric_limits<std::uint32_t>::max();

  explicit FutureAccesses(std::size_t keys) : keys_(keys) { offsets_.push_back(0); }

  // Takes room in advance.
  void reserve(std::size_t events, std::size_t accesses) {
    offsets_.reserve(events + 1);
    accesses_.reserve(accesses);
  }
  // Appends the next event.
  void add_event(std::span<const ExpertKey> keys) {
    accesses_.insert(accesses_.end(), keys.begin(), keys.end());
    offsets_.push_back(accesses_.size());
  }
  // Call once after the last add_event; builds the index of uses per expert.
  void finish();

  [[nodiscard]] std::size_t events() const { return offsets_.size() - 1; }
  [[nodiscard]] std::size_t keys() const { return keys_; }
  // The experts of event `number`, in the order given.
  [[nodiscard]] std::span<const ExpertKey> event(std::size_t number) const {
    return std::span(accesses_).subspan(offsets_[number], offsets_[number + 1] - offsets_[number]);
  }
  // The events that use `key`, increasing. REQUIRES: finish() was called.
  [[nodiscard]] std::span<const std::uint32_t> uses(ExpertKey key) const {
    const std::size_t first = use_offsets_[index(key)];
    return std::span(uses_).subspan(first, use_offsets_[index(key) + 1] - first);
  }

 private:
  std::size_t keys_;
  std::vector<ExpertKey> accesses_;       // all events, one after the other
  std::vector<std::size_t> offsets_;      // [events + 1] into accesses_
  std::vector<std::uint32_t> uses_;       // event numbers, grouped by key
  std::vector<std::size_t> use_offsets_;  // [keys + 1] into uses_
};

// The next use of every expert while a run goes on.
class NextUse {
 public:
  explicit NextUse(const FutureAccesses& future) : future_(&future), cursor_(future.keys(), 0) {}

  // The first event after the last one that advance() was called with for this key, in which it
  // is used; kNever if there is none.
  [[nodiscard]] std::uint32_t of(ExpertKey key) const {
    const auto uses = future_->uses(key);
    return cursor_[index(key)] < uses.size() ? uses[cursor_[index(key)]] : FutureAccesses::kNever;
  }
  // Moves past event `number`.
  void advance(ExpertKey key, std::uint32_t number) {
    const auto uses = future_->uses(key);
    std::uint32_t& cursor = cursor_[index(key)];
    while (cursor < uses.size() && uses[cursor] <= number) ++cursor;
  }

 private:
  const FutureAccesses* future_;
  std::vector<std::uint32_t> cursor_;  // [keys]
};

}  // namespace moesim
