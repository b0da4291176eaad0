// ARC (Megiddo and Modha, FAST 2003, figure 4): T1 holds what was used once, T2 what was used
// again, both by recency; B1 and B2 remember the ids that left them. A miss that B1 remembers moves
// the target p of T1 up, one that B2 remembers moves it down.
//
// All lists are measured in the unit of the capacity c, and a miss moves p by the size of the
// expert (times the ratio of the ghost lists, as published); with equal sizes that is the paper's
// count. A speculative read is no use: it adapts nothing and its expert enters T1; the first use
// after it leaves the expert there.
#include <algorithm>

#include "cache/eviction/key_lists.h"

namespace moesim {
namespace {

class Arc final : public EvictionPolicy {
 public:
  Arc(Section& /*config*/, const EvictionContext& context)
      : lists_(context, context.partitions * kLists),
        capacity_(context.capacity),
        targets_(context.partitions, 0.0),
        marks_(context.shape.layers * context.shape.experts) {}

  void begin_event(const CacheEvent& /*event*/) override { entering_ = {}; }

  // Cases II to IV up to the calls of REPLACE, which is victim().
  void before_insert(ExpertKey key, const CacheEvent& event) override {
    const std::size_t first = event.partition() * kLists;
    const std::uint32_t list = lists_.list_of(key);
    entering_ = {key, lists_.size_of(key), list == KeyLists::kNone, false, true};
    if (event.kind() != EventKind::kSpeculative && !entering_.is_new) {
      adapt(key, event.partition());
      entering_.from_b2 = list == first + kB2;
    }
    if (entering_.is_new) make_ghost_room(first);
  }
  void on_hit(ExpertKey key, const CacheEvent& event) override {
    Mark& mark = marks_[index(key)];
    lists_.push(event.partition() * kLists + (mark.used ? kT2 : kT1), key);
    mark = {++clock_, true};
  }
  void on_insert(ExpertKey key, const CacheEvent& event) override {
    const bool used = event.kind() != EventKind::kSpeculative;
    const bool remembered = lists_.list_of(key) != KeyLists::kNone;
    // A late miss: its room was made when the speculative read began.
    if (used && remembered && !(entering_.set && entering_.key == key)) {
      adapt(key, event.partition());
    }
    entering_ = {};
    lists_.push(event.partition() * kLists + (used && remembered ? kT2 : kT1), key);
    marks_[index(key)] = {++clock_, used};
  }
  void on_evict(ExpertKey key) override {
    const std::uint32_t list = lists_.list_of(key);
    if (list % kLists == kT1 && forget_) {
      lists_.erase(key);
    } else {
      lists_.push(list - kT1 + kB1, key);  // B1 after T1 as B2 after T2
    }
    forget_ = false;
  }
  std::optional<ExpertKey> victim(const CacheEvent& event, bool spare_members) override {
    return others_first(event, spare_members, [&](bool spare) { return replace(event, spare); });
  }
  // 1 to 2 in the list that evicts next, less than 1 in the other; within each the more, the longer
  // ago the last touch is.
  [[nodiscard]] double score(ExpertKey key) const override {
    const std::uint32_t list = lists_.list_of(key);
    const std::size_t partition = list / kLists;
    const std::size_t t1 = partition * kLists + kT1;
    const std::size_t next =
        static_cast<double>(lists_.size(t1)) > targets_[partition] ? t1 : t1 - kT1 + kT2;
    const auto waited = static_cast<double>(clock_ - marks_[index(key)].touched);
    return (list == next ? 1.0 : 0.0) + waited / (waited + 1);
  }
  // REPLACE comes before the new page.
  [[nodiscard]] Insertion insertion() const override { return Insertion::kOneByOne; }
  void reset() override {
    for (std::size_t first = 0; first < lists_.lists(); first += kLists) {
      lists_.clear(first + kB1);
      lists_.clear(first + kB2);
    }
    std::fill(targets_.begin(), targets_.end(), 0.0);
    entering_ = {};
  }

 private:
  enum List : std::size_t { kT1, kB1, kT2, kB2, kLists };
  struct Mark {
    std::uint64_t touched = 0;
    bool used = false;  // false while only a speculative read has brought it
  };
  struct Entering {
    ExpertKey key{};
    std::uint64_t size = 0;
    bool is_new = false;  // in no list
    bool from_b2 = false;
    bool set = false;
  };

  void adapt(ExpertKey key, std::size_t partition) {
    const std::size_t first = partition * kLists;
    const auto b1 = static_cast<double>(lists_.size(first + kB1));
    const auto b2 = static_cast<double>(lists_.size(first + kB2));
    const auto size = static_cast<double>(lists_.size_of(key));
    double& target = targets_[partition];
    if (lists_.list_of(key) == first + kB1) {
      target = std::min(target + size * std::max(1.0, b2 / b1), static_cast<double>(capacity_));
    } else {
      target = std::max(target - size * std::max(1.0, b1 / b2), 0.0);
    }
  }

  // Case IV: with the new one, L1 = T1 + B1 takes no more than c, and all lists no more than 2c.
  void make_ghost_room(std::size_t first) {
    const auto l1 = [&] { return lists_.size(first + kT1) + lists_.size(first + kB1); };
    const auto l2 = [&] { return lists_.size(first + kT2) + lists_.size(first + kB2); };
    const std::uint64_t size = entering_.size;
    while (l1() + size > capacity_ && !lists_.empty(first + kB1)) {
      lists_.erase(*lists_.oldest(first + kB1));
    }
    if (l1() + size > capacity_) return;  // T1 alone: its oldest goes without a trace
    while (l1() + l2() + size > 2 * capacity_ && !lists_.empty(first + kB2)) {
      lists_.erase(*lists_.oldest(first + kB2));
    }
  }

  std::optional<ExpertKey> replace(const CacheEvent& event, bool spare) {
    const std::size_t first = event.partition() * kLists;
    const auto t1 = static_cast<double>(lists_.size(first + kT1));
    const double target = targets_[event.partition()];
    forget_ = entering_.is_new &&
              lists_.size(first + kT1) + lists_.size(first + kB1) + entering_.size > capacity_;
    const bool from_t1 = forget_ || t1 > target || (entering_.from_b2 && t1 == target);
    auto found = lists_.oldest(first + (from_t1 ? kT1 : kT2), event, spare);
    if (!found) found = lists_.oldest(first + (from_t1 ? kT2 : kT1), event, spare);
    return found;
  }

  KeyLists lists_;  // kLists per partition
  std::uint64_t capacity_;
  std::vector<double> targets_;  // [partitions], p of the paper
  std::vector<Mark> marks_;      // [layers * experts]
  Entering entering_;
  bool forget_ = false;  // the victim named last leaves no ghost if it is of T1
  std::uint64_t clock_ = 0;
};

MOESIM_REGISTER(EvictionPolicy, Arc, "arc",
                About("two lists, used once and used again, whose shares follow the misses that "
                      "either would have hit",
                      "ARC, Megiddo and Modha, FAST 2003, figure 4"));

}  // namespace
}  // namespace moesim
