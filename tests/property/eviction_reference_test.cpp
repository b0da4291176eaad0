// Published policies against slow references written from the pseudo-code of their papers, access
// by access in one cache: the same hits in the same order.
#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/rng.h"
#include "support/cache_replay.h"
#include "support/testing.h"

namespace moesim::test {
namespace {

constexpr std::size_t kExperts = 24;

using Queue = std::deque<int>;  // front: head, the newest; back: tail, the oldest

bool holds(const Queue& queue, int x) {
  return std::find(queue.begin(), queue.end(), x) != queue.end();
}
void remove(Queue& queue, int x) { queue.erase(std::find(queue.begin(), queue.end(), x)); }
std::size_t count(const Queue& queue) { return queue.size(); }

// One access: true for a hit.
using Reference = std::function<bool(int)>;

Reference fifo(std::size_t capacity, bool last_in_first_out) {
  return [=, queue = Queue{}](int x) mutable {
    if (holds(queue, x)) return true;
    if (count(queue) == capacity) {
      if (last_in_first_out) {
        queue.pop_front();
      } else {
        queue.pop_back();
      }
    }
    queue.push_front(x);
    return false;
  };
}

struct Used {
  int uses = 0;
  int last = 0;
};

// Victim among what was there before: the lowest count, the longest unused, the lowest id. Counts
// are never forgotten.
Reference lfu(std::size_t capacity) {
  return [=, held = std::set<int>{}, used = std::map<int, Used>{}, now = 0](int x) mutable {
    const bool hit = held.contains(x);
    if (!hit && held.size() == capacity) {
      held.erase(*std::min_element(held.begin(), held.end(), [&](int a, int b) {
        return std::pair(used[a].uses, used[a].last) < std::pair(used[b].uses, used[b].last);
      }));
    }
    held.insert(x);
    ++used[x].uses;
    used[x].last = ++now;
    return hit;
  };
}

// The lowest count / (age + 1), the lowest id; one access is one token.
Reference lfru(std::size_t capacity) {
  return [=, held = std::set<int>{}, used = std::map<int, Used>{}, now = 0](int x) mutable {
    ++now;
    const bool hit = held.contains(x);
    if (!hit && held.size() == capacity) {
      const auto keep = [&](int e) {
        return static_cast<long double>(used[e].uses) / (now - used[e].last + 1);
      };
      held.erase(*std::min_element(held.begin(), held.end(),
                                   [&](int a, int b) { return keep(a) < keep(b); }));
    }
    held.insert(x);
    ++used[x].uses;
    used[x].last = now;
    return hit;
  };
}

// NSDI 2024, algorithm 1. The hand is an expert, or -1 for none.
class Sieve {
 public:
  explicit Sieve(std::size_t capacity) : capacity_(capacity) {}

  bool operator()(int x) {
    if (holds(queue_, x)) {
      visited_[x] = true;
      return true;
    }
    if (count(queue_) == capacity_) evict();
    queue_.push_front(x);
    visited_[x] = false;
    return false;
  }

 private:
  [[nodiscard]] int towards_head(int x) const {
    const auto place = std::find(queue_.begin(), queue_.end(), x);
    return place == queue_.begin() ? -1 : *(place - 1);
  }
  void evict() {
    int at = hand_ == -1 ? queue_.back() : hand_;
    while (visited_[at]) {
      visited_[at] = false;
      at = towards_head(at);
      if (at == -1) at = queue_.back();
    }
    hand_ = towards_head(at);
    remove(queue_, at);
  }

  std::size_t capacity_;
  Queue queue_;
  std::map<int, bool> visited_;
  int hand_ = -1;
};

// SOSP 2023, algorithm 1, except that an eviction from a full main queue is an eviction.
class S3Fifo {
 public:
  explicit S3Fifo(std::size_t capacity) : capacity_(capacity) {}

  bool operator()(int x) {
    if (holds(small_, x) || holds(main_, x)) {
      freq_[x] = std::min(freq_[x] + 1, 3);
      return true;
    }
    while (count(small_) + count(main_) == capacity_) {
      if (10 * count(small_) >= capacity_) {
        evict_small();
      } else {
        evict_main();
      }
    }
    if (holds(ghost_, x)) {
      remove(ghost_, x);
      main_.push_front(x);
    } else {
      small_.push_front(x);
    }
    freq_[x] = 0;
    return false;
  }

 private:
  void evict_small() {
    bool evicted = false;
    while (!evicted && !small_.empty()) {
      const int tail = small_.back();
      small_.pop_back();
      if (freq_[tail] > 1) {
        freq_[tail] = 0;
        main_.push_front(tail);
        if (10 * count(main_) > 9 * capacity_) {
          evict_main();
          evicted = true;
        }
      } else {
        ghost_.push_front(tail);
        while (10 * count(ghost_) > 9 * capacity_) ghost_.pop_back();
        evicted = true;
      }
    }
  }
  void evict_main() {
    bool evicted = false;
    while (!evicted && !main_.empty()) {
      const int tail = main_.back();
      main_.pop_back();
      if (freq_[tail] > 0) {
        --freq_[tail];
        main_.push_front(tail);
      } else {
        evicted = true;
      }
    }
  }

  std::size_t capacity_;
  Queue small_;
  Queue main_;
  Queue ghost_;
  std::map<int, int> freq_;
};

// FAST 2003, figure 4. Fronts are MRU.
class Arc {
 public:
  explicit Arc(std::size_t capacity) : c_(capacity) {}

  bool operator()(int x) {
    for (Queue* hit : {&t1_, &t2_}) {
      if (!holds(*hit, x)) continue;
      remove(*hit, x);
      t2_.push_front(x);
      return true;
    }
    const bool in_b1 = holds(b1_, x);
    const bool in_b2 = holds(b2_, x);
    if (in_b1 || in_b2) {
      remembered(x, in_b2);
    } else {
      unknown(x);
    }
    return false;
  }

 private:
  void remembered(int x, bool in_b2) {
    const auto b1 = static_cast<double>(b1_.size());
    const auto b2 = static_cast<double>(b2_.size());
    if (in_b2) {
      p_ = std::max(p_ - (b2 >= b1 ? 1.0 : b1 / b2), 0.0);
    } else {
      p_ = std::min(p_ + (b1 >= b2 ? 1.0 : b2 / b1), static_cast<double>(c_));
    }
    replace(in_b2);
    remove(in_b2 ? b2_ : b1_, x);
    t2_.push_front(x);
  }
  void unknown(int x) {
    const std::size_t all = t1_.size() + b1_.size() + t2_.size() + b2_.size();
    if (t1_.size() + b1_.size() == c_) {
      if (t1_.size() < c_) {
        b1_.pop_back();
        replace(false);
      } else {
        t1_.pop_back();
      }
    } else if (all >= c_) {
      if (all == 2 * c_) b2_.pop_back();
      replace(false);
    }
    t1_.push_front(x);
  }
  void replace(bool x_in_b2) {
    const auto t1 = static_cast<double>(t1_.size());
    if (!t1_.empty() && (t1 > p_ || (x_in_b2 && t1 == p_))) {
      b1_.push_front(t1_.back());
      t1_.pop_back();
    } else {
      b2_.push_front(t2_.back());
      t2_.pop_back();
    }
  }

  std::size_t c_;
  double p_ = 0;
  Queue t1_;
  Queue b1_;
  Queue t2_;
  Queue b2_;
};

Reference reference(const std::string& policy, std::size_t capacity) {
  if (policy == "fifo") return fifo(capacity, false);
  if (policy == "lifo") return fifo(capacity, true);
  if (policy == "lfu") return lfu(capacity);
  if (policy == "lfru") return lfru(capacity);
  if (policy == "sieve") return Sieve(capacity);
  if (policy == "s3_fifo") return S3Fifo(capacity);
  return Arc(capacity);
}

// Three phases, each with favourites of its own, and scans in between.
std::vector<int> random_accesses(std::uint64_t seed) {
  Rng rng(seed);
  std::vector<int> accesses;
  for (int i = 0; i < 3000; ++i) {
    const std::size_t phase = static_cast<std::size_t>(i) / 1000 * 5;
    std::size_t expert = rng.below(kExperts);
    if (rng.below(3) > 0) expert = phase + std::min(rng.below(8), rng.below(8));
    if (i % 500 > 450) expert = static_cast<std::size_t>(i);
    accesses.push_back(static_cast<int>(expert % kExperts));
  }
  return accesses;
}

ExpertCache cache_of(const std::string& policy, std::size_t capacity, Accounting accounting,
                     std::uint64_t size) {
  CacheOptions options;
  options.shape = {1, 1, kExperts};
  options.capacity = capacity * size;
  options.accounting = accounting;
  options.expert_size.assign(kExperts, size);
  return make_cache(options, {{"policy", policy}});
}

}  // namespace

TEST_SUITE("eviction references") {
  TEST_CASE("hits come as in the papers' pseudo-code") {
    for (const char* policy : {"fifo", "lifo", "lfu", "lfru", "sieve", "s3_fifo", "arc"}) {
      CAPTURE(policy);
      for (const std::size_t capacity : {1, 2, 3, 5, 8, 10, 13, 20, 23}) {
        CAPTURE(capacity);
        for (const std::uint64_t seed : {1, 2, 3}) {
          const std::vector<int> accesses = random_accesses(seed);
          Reference expected = reference(policy, capacity);
          ExpertCache at_once = cache_of(policy, capacity, Accounting::kEvent, 1);
          ExpertCache one_by_one = cache_of(policy, capacity, Accounting::kAccess, 7);
          std::uint32_t token = 0;
          for (const int expert : accesses) {
            CAPTURE(token);
            const bool hit = expected(expert);
            for (ExpertCache* cache : {&at_once, &one_by_one}) {
              const EventOutcome outcome = cache->visit(token, LayerId{}, expert_ids({expert}));
              REQUIRE((outcome.accesses[0].kind == AccessKind::kHit) == hit);
            }
            ++token;
          }
        }
      }
    }
  }

  TEST_CASE("accesses of a visit that are judged one by one follow them too") {
    // Not those that protect the experts of a visit.
    for (const char* policy : {"fifo", "lifo", "sieve", "s3_fifo", "arc"}) {
      CAPTURE(policy);
      for (const std::size_t capacity : {4, 7, 12}) {
        CAPTURE(capacity);
        Rng rng(capacity);
        Reference expected = reference(policy, capacity);
        ExpertCache cache = cache_of(policy, capacity, Accounting::kAccess, 1);
        for (std::uint32_t token = 0; token < 800; ++token) {
          std::vector<int> experts;
          while (experts.size() < 4) {
            const auto expert = static_cast<int>(std::min(rng.below(kExperts), rng.below(16)));
            if (std::find(experts.begin(), experts.end(), expert) == experts.end()) {
              experts.push_back(expert);
            }
          }
          const EventOutcome outcome = cache.visit(token, LayerId{}, expert_ids(experts));
          for (std::size_t i = 0; i < experts.size(); ++i) {
            CAPTURE(token);
            REQUIRE((outcome.accesses[i].kind == AccessKind::kHit) == expected(experts[i]));
          }
        }
      }
    }
  }
}

}  // namespace moesim::test
