#include "engine/hit_bounds.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "core/indexed_heap.h"

namespace moesim {
namespace {

constexpr std::uint32_t kNever = std::numeric_limits<std::uint32_t>::max();

// What is judged at one time: an event, or one access of it.
struct Step {
  std::size_t first = 0;  // of its uses
  std::size_t end = 0;
  std::uint64_t members = 0;  // sizes that must stay after it (keep_event), else 0
  std::uint64_t room = 0;     // sizes that may be held after it
};

// One expert at one step.
struct Use {
  ExpertKey key{};
  std::uint32_t next = kNever;  // the step of its next use where that is one that counts
};

// An expert held from one use to the next, which then hits.
struct Interval {
  std::uint64_t size = 0;
  std::uint32_t from = 0;
  std::uint32_t to = 0;
  [[nodiscard]] std::uint64_t cost() const { return size * (to - from); }
};

// Sums over ranges of steps: add to a range, and the largest of a range.
class RangeLoads {
 public:
  explicit RangeLoads(const std::vector<Step>& steps) : size_(1) {
    while (size_ < steps.size()) size_ *= 2;
    largest_.assign(2 * size_, 0);
    added_.assign(2 * size_, 0);
    for (std::size_t i = 0; i < steps.size(); ++i) largest_[size_ + i] = steps[i].members;
    for (std::size_t i = size_ - 1; i > 0; --i) {
      largest_[i] = std::max(largest_[2 * i], largest_[2 * i + 1]);
    }
  }
  // Steps [from, to).
  [[nodiscard]] std::uint64_t largest(std::size_t from, std::size_t to) const {
    return largest(1, 0, size_, from, to);
  }
  void add(std::size_t from, std::size_t to, std::uint64_t load) {
    add(1, 0, size_, from, to, load);
  }

 private:
  [[nodiscard]] std::uint64_t largest(std::size_t node, std::size_t low, std::size_t high,
                                      std::size_t from, std::size_t to) const {
    if (to <= low || high <= from) return 0;
    if (from <= low && high <= to) return largest_[node];
    const std::size_t middle = (low + high) / 2;
    return added_[node] + std::max(largest(2 * node, low, middle, from, to),
                                   largest(2 * node + 1, middle, high, from, to));
  }
  void add(std::size_t node, std::size_t low, std::size_t high, std::size_t from, std::size_t to,
           std::uint64_t load) {
    if (to <= low || high <= from) return;
    if (from <= low && high <= to) {
      largest_[node] += load;
      added_[node] += load;
      return;
    }
    const std::size_t middle = (low + high) / 2;
    add(2 * node, low, middle, from, to, load);
    add(2 * node + 1, middle, high, from, to, load);
    largest_[node] = added_[node] + std::max(largest_[2 * node], largest_[2 * node + 1]);
  }

  std::size_t size_;
  std::vector<std::uint64_t> largest_;  // a binary tree, the root at 1; of the node and below
  std::vector<std::uint64_t> added_;    // to all steps of the node
};

// The farthest next use on top.
struct Farthest {
  bool operator()(std::uint32_t a, std::uint32_t b) const { return a > b; }
};

// The accesses of one partition as steps.
class PartitionBounds {
 public:
  PartitionBounds(const AccessLog& log, const CacheOptions& options, std::size_t partition)
      : log_(log),
        options_(options),
        one_by_one_(options.accounting == Accounting::kAccess),
        keeps_(options.overflow == Overflow::kKeepEvent),
        key_base_(options.scope == CacheScope::kGlobal ? 0 : partition * options.shape.experts),
        keys_(options.scope == CacheScope::kGlobal ? options.expert_size.size()
                                                   : options.shape.experts),
        last_(keys_, kNone) {
    const auto sizes = std::span(options.expert_size).subspan(key_base_, keys_);
    smallest_ = *std::min_element(sizes.begin(), sizes.end());
    equal_ = smallest_ == *std::max_element(sizes.begin(), sizes.end());
  }

  // The cache is empty, or has its initial contents.
  void start() {
    std::fill(last_.begin(), last_.end(), kNone);
    used_ = 0;
    was_full_ = false;
    Step step{uses_.size(), uses_.size(), 0, options_.capacity};
    for (const ExpertKey key : options_.initial) {
      if (index(key) - key_base_ >= keys_) continue;
      if (used_ + size(key) > options_.capacity) continue;
      used_ += size(key);
      last_[index(key) - key_base_] = uses_.size();
      uses_.push_back({key, kNever});
    }
    step.end = uses_.size();
    if (step.end > step.first) steps_.push_back(step);
  }

  void add_event(std::size_t number) {
    const LoggedEvent& event = log_.event(number);
    const auto keys = log_.accesses().event(number);
    std::uint64_t members = 0;
    for (const ExpertKey key : keys) members += size(key);
    // What stays above the capacity until the next event, all of it where steps are single
    // accesses, which can only raise the bound.
    const std::uint64_t room = keeps_ ? std::max(members, options_.capacity) : options_.capacity;
    const bool split = one_by_one_ && !event.is_union;
    const std::size_t length = split ? 1 : keys.size();
    for (std::size_t first = 0; first < keys.size(); first += length) {
      steps_.push_back({uses_.size(), uses_.size() + length, keeps_ && !split ? members : 0, room});
      for (const ExpertKey key : keys.subspan(first, length)) add_use(key, event.measured);
    }
  }

  HitBounds bounds() const {
    const std::uint64_t most = optimum();
    if (equal_) return {cold_hits_ + (keeps_ && one_by_one_ ? 0 : most), cold_hits_ + most};
    std::vector<Interval> intervals = intervals_by_cost();
    const bool packs = !(keeps_ && one_by_one_);
    return {packs ? cold_hits_ + packed(intervals) : 0,
            cold_hits_ + std::min(most, affordable(intervals))};
  }

 private:
  static constexpr std::size_t kNone = std::numeric_limits<std::size_t>::max();

  [[nodiscard]] std::uint64_t size(ExpertKey key) const { return options_.expert_size[index(key)]; }

  void add_use(ExpertKey key, bool measured) {
    const auto step = static_cast<std::uint32_t>(steps_.size() - 1);
    std::size_t& last = last_[index(key) - key_base_];
    if (last != kNone) {
      if (measured) uses_[last].next = step;
    } else if (options_.cold_start == ColdStart::kHitUntilFull && !was_full_) {
      used_ += size(key);
      was_full_ = used_ > options_.capacity;
      if (!was_full_ && measured) ++cold_hits_;
    }
    last = uses_.size();
    uses_.push_back({key, kNever});
  }

  // The most hits if every expert takes the smallest size: after each step those with the nearest
  // next use stay, beside the members that must.
  [[nodiscard]] std::uint64_t optimum() const {
    IndexedHeap<std::uint32_t, Farthest> held(keys_);
    std::uint64_t hits = 0;
    for (std::uint32_t at = 0; at < steps_.size(); ++at) {
      const Step& step = steps_[at];
      for (std::size_t use = step.first; use < step.end; ++use) {
        const std::size_t key = index(uses_[use].key) - key_base_;
        if (held.contains(key) && held.priority(key) == at) ++hits;
        held.erase(key);
      }
      const std::uint64_t places = step.room / smallest_;
      const std::uint64_t forced = step.members > 0 ? step.end - step.first : 0;
      if (forced > 0) shrink(held, places > forced ? places - forced : 0);
      for (std::size_t use = step.first; use < step.end; ++use) {
        if (uses_[use].next == kNever) continue;
        held.set(index(uses_[use].key) - key_base_, uses_[use].next);
      }
      if (forced == 0) shrink(held, places);
    }
    return hits;
  }
  static void shrink(IndexedHeap<std::uint32_t, Farthest>& held, std::uint64_t places) {
    while (held.size() > places) held.erase(held.top());
  }

  [[nodiscard]] std::vector<Interval> intervals_by_cost() const {
    std::vector<Interval> intervals;
    intervals.reserve(uses_.size());
    for (std::uint32_t at = 0; at < steps_.size(); ++at) {
      for (std::size_t use = steps_[at].first; use < steps_[at].end; ++use) {
        if (uses_[use].next == kNever) continue;
        intervals.push_back({size(uses_[use].key), at, uses_[use].next});
      }
    }
    // Equal costs keep the order of the accesses.
    std::stable_sort(intervals.begin(), intervals.end(),
                     [](const Interval& a, const Interval& b) { return a.cost() < b.cost(); });
    return intervals;
  }

  // PFOO-L
  [[nodiscard]] std::uint64_t affordable(const std::vector<Interval>& intervals) const {
    std::uint64_t left = 0;
    for (const Step& step : steps_) left += step.room;
    std::uint64_t hits = 0;
    for (const Interval& interval : intervals) {
      if (!keeps_ && interval.size > options_.capacity) continue;
      if (interval.cost() > left) break;
      left -= interval.cost();
      ++hits;
    }
    return hits;
  }

  // PFOO-U. With keep_event a member has its place in the step that uses it anyway.
  [[nodiscard]] std::uint64_t packed(const std::vector<Interval>& intervals) const {
    RangeLoads loads(steps_);
    std::uint64_t hits = 0;
    for (const Interval& interval : intervals) {
      const bool has_place = steps_[interval.from].members > 0;
      const std::size_t from = interval.from + (has_place ? 1U : 0U);
      if (from < interval.to) {
        if (loads.largest(from, interval.to) + interval.size > options_.capacity) continue;
        loads.add(from, interval.to, interval.size);
      }
      ++hits;
    }
    return hits;
  }

  const AccessLog& log_;
  const CacheOptions& options_;
  bool one_by_one_;
  bool keeps_;
  std::size_t key_base_;
  std::size_t keys_;
  std::uint64_t smallest_ = 1;
  bool equal_ = true;
  std::vector<std::size_t> last_;  // [keys of the partition], its last use, or kNone
  std::vector<Step> steps_;
  std::vector<Use> uses_;
  std::uint64_t used_ = 0;  // while nothing has left yet
  bool was_full_ = false;
  std::uint64_t cold_hits_ = 0;  // by the cold start, whatever leaves later
};

}  // namespace

HitBounds hit_bounds(const AccessLog& log, const CacheOptions& options) {
  HitBounds all;
  if (options.capacity == 0) return all;
  const std::size_t partitions = options.scope == CacheScope::kGlobal ? 1 : options.shape.layers;
  std::vector<std::vector<std::uint32_t>> events(partitions);
  std::vector<std::uint32_t> resets(log.events(), 0);  // how many came before each event
  std::uint32_t seen = 0;
  for (std::size_t number = 0; number < log.events(); ++number) {
    const LoggedEvent& event = log.event(number);
    if (event.resets_before) ++seen;
    resets[number] = seen;
    events[partitions == 1 ? 0 : index(event.layer)].push_back(static_cast<std::uint32_t>(number));
  }
  for (std::size_t partition = 0; partition < partitions; ++partition) {
    PartitionBounds of(log, options, partition);
    of.start();
    std::uint32_t before = 0;
    for (const std::uint32_t number : events[partition]) {
      if (resets[number] != before) of.start();
      before = resets[number];
      of.add_event(number);
    }
    const HitBounds bounds = of.bounds();
    all.lower += bounds.lower;
    all.upper += bounds.upper;
  }
  return all;
}

}  // namespace moesim
