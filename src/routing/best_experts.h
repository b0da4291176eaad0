// The best few of the experts offered, kept in order while they come: how a policy changes a
// selection without sorting the whole row.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "core/ids.h"

namespace moesim {

class BestExperts {
 public:
  struct Entry {
    double score = 0;
    ExpertId expert{};
    std::size_t native_rank = 0;  // the caller's; the number of native experts for a promoted one
  };

  // `most`: the largest number of places that start() is ever given.
  explicit BestExperts(std::size_t most) { entries_.reserve(most); }

  void start(std::size_t places) {
    entries_.clear();
    places_ = places;
  }

  // Best first; equal scores by lower id.
  [[nodiscard]] std::span<const Entry> entries() const { return entries_; }

  // No entry with a lower score is kept.
  [[nodiscard]] double bar() const {
    const bool full = entries_.size() == places_ && places_ > 0;
    return full ? entries_.back().score : -std::numeric_limits<double>::infinity();
  }

  // Keeps the entry where it is among the best so far. Linear in the places it passes.
  void offer(const Entry& entry) {
    if (entries_.size() == places_) {
      if (places_ == 0 || !before(entry, entries_.back())) return;
      entries_.pop_back();
    }
    std::size_t place = entries_.size();
    entries_.push_back(entry);
    for (; place > 0 && before(entry, entries_[place - 1]); --place) {
      entries_[place] = entries_[place - 1];
    }
    entries_[place] = entry;
  }

 private:
  static bool before(const Entry& a, const Entry& b) {
    return a.score != b.score ? a.score > b.score : a.expert < b.expert;
  }

  std::vector<Entry> entries_;
  std::size_t places_ = 0;
};

}  // namespace moesim
