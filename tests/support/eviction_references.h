// Slow references of eviction policies, written from the pseudo-code of their papers: one cache of
// experts of equal size, access by access.
#pragma once

#include <algorithm>
#include <cstddef>
#include <deque>
#include <functional>
#include <map>
#include <set>
#include <utility>

namespace moesim::test::reference {

using Queue = std::deque<int>;  // front: head, the newest; back: tail, the oldest

inline bool holds(const Queue& queue, int x) {
  return std::find(queue.begin(), queue.end(), x) != queue.end();
}
inline void remove(Queue& queue, int x) { queue.erase(std::find(queue.begin(), queue.end(), x)); }
inline std::size_t count(const Queue& queue) { return queue.size(); }

// One access: true for a hit.
using Reference = std::function<bool(int)>;

inline Reference fifo(std::size_t capacity, bool last_in_first_out) {
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
inline Reference lfu(std::size_t capacity) {
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
inline Reference lfru(std::size_t capacity) {
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

}  // namespace moesim::test::reference
