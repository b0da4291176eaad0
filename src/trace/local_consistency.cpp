#include "trace/local_consistency.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace moesim {
namespace {

// How often each expert is used in a window that slides over one stream, and how many experts are
// used how often.
class SlidingWindow {
 public:
  SlidingWindow(std::size_t experts, std::size_t m) : count_(experts, 0), level_(m + 1, 0) {}

  void enter(VisitIds ids) {
    for (const std::uint16_t id : ids) {
      --level_[count_[id]];
      ++level_[++count_[id]];
    }
  }
  void leave(VisitIds ids) {
    for (const std::uint16_t id : ids) {
      --level_[count_[id]];
      ++level_[--count_[id]];
    }
  }
  // [m + 1]: experts that are used f times; entry 0 means nothing.
  [[nodiscard]] const std::vector<std::int64_t>& level() const { return level_; }

 private:
  std::vector<std::size_t> count_;
  std::vector<std::int64_t> level_;
};

void add_windows(const std::vector<VisitIds>& stream, std::size_t experts, std::size_t m,
                 std::vector<std::int64_t>& histogram) {
  if (stream.size() < m) return;
  SlidingWindow window(experts, m);
  for (std::size_t i = 0; i < stream.size(); ++i) {
    if (i >= m) window.leave(stream[i - m]);
    window.enter(stream[i]);
    if (i + 1 < m) continue;
    for (std::size_t f = 1; f <= m; ++f) histogram[f] += window.level()[f];
  }
}

// One cache over one stream. Victim: least used in the window, then least recently used.
class LookAheadCache {
 public:
  LookAheadCache(std::size_t experts, SegmentCache& result) : result_(result), experts_(experts) {}

  void run(const std::vector<VisitIds>& stream) {
    for (std::size_t i = 0; i < std::min(result_.m, stream.size()); ++i) enter(stream[i]);
    for (std::size_t i = 0; i < stream.size(); ++i) {
      visit(stream[i]);
      if (i + result_.m < stream.size()) enter(stream[i + result_.m]);
    }
  }

 private:
  struct Expert {
    std::uint64_t uses = 0;  // within the window
    std::uint64_t last_use = 0;
    bool resident = false;
  };

  void enter(VisitIds ids) {
    for (const std::uint16_t id : ids) ++experts_[id].uses;
  }

  void visit(VisitIds ids) {
    // All hits are judged before the first insertion; a cold access is one that finds room.
    result_.accesses += ids.size();
    const auto hits = std::count_if(ids.begin(), ids.end(),
                                    [this](std::uint16_t id) { return experts_[id].resident; });
    result_.hits_strict += static_cast<std::uint64_t>(hits);
    result_.hits_cold_counts_as_hit += static_cast<std::uint64_t>(hits);
    for (const std::uint16_t id : ids) {
      Expert& expert = experts_[id];
      --expert.uses;
      expert.last_use = ++clock_;
      if (expert.resident || result_.capacity == 0) continue;
      if (residents_.size() == result_.capacity) {
        evict();
      } else {
        ++result_.hits_cold_counts_as_hit;
      }
      expert.resident = true;
      residents_.push_back(id);
    }
  }

  void evict() {
    const auto victim = std::min_element(
        residents_.begin(), residents_.end(), [this](std::uint16_t a, std::uint16_t b) {
          return std::pair(experts_[a].uses, experts_[a].last_use) <
                 std::pair(experts_[b].uses, experts_[b].last_use);
        });
    experts_[*victim].resident = false;
    *victim = residents_.back();
    residents_.pop_back();
  }

  SegmentCache& result_;
  std::vector<Expert> experts_;
  std::vector<std::uint16_t> residents_;
  std::uint64_t clock_ = 0;
};

}  // namespace

std::optional<SegmentRouting> segment_routing(const DecodeVisits& visits, std::size_t m) {
  std::vector<std::int64_t> histogram(m + 1, 0);
  for (std::size_t sequence = 0; sequence < visits.sequences(); ++sequence) {
    for (std::size_t layer = 0; layer < visits.shape().layers; ++layer) {
      add_windows(visits.stream(sequence, layer), visits.shape().experts, m, histogram);
    }
  }
  std::int64_t uses = 0;
  for (std::size_t f = 1; f <= m; ++f) uses += static_cast<std::int64_t>(f) * histogram[f];
  if (uses == 0) return std::nullopt;
  SegmentRouting best;
  best.m = m;
  std::int64_t covered = 0;   // uses by experts predicted active
  std::int64_t selected = 0;  // experts predicted active
  for (std::size_t alpha = m; alpha >= 1; --alpha) {
    covered += static_cast<std::int64_t>(alpha) * histogram[alpha];
    selected += histogram[alpha];
    const double predicted = static_cast<double>(m) * static_cast<double>(selected);
    const double f1 = 2.0 * static_cast<double>(covered) / (predicted + static_cast<double>(uses));
    if (f1 >= best.srp) best = {m, f1, alpha, predicted / static_cast<double>(uses)};
  }
  return best;
}

SegmentCache segment_cache(const DecodeVisits& visits, std::size_t m, std::size_t capacity) {
  SegmentCache result;
  result.m = m;
  result.capacity = capacity;
  for (std::size_t sequence = 0; sequence < visits.sequences(); ++sequence) {
    for (std::size_t layer = 0; layer < visits.shape().layers; ++layer) {
      LookAheadCache(visits.shape().experts, result).run(visits.stream(sequence, layer));
    }
  }
  return result;
}

}  // namespace moesim
