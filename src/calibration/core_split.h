// Which cores compute and which read, where there are enough for both.
//
// A lane wakes who waits for its read, and the system often lets that thread go on where the lane
// was. Both are then on one core, the lane's next read does not begin while the other computes, and
// nothing overlaps. So threads that compute get cores of their own, and lanes the rest. Left as
// they are where that leaves no core for lanes, and on systems other than Linux.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>

namespace moesim {

// What a thread with a core of its own looks for a read before it sleeps: longer than reads last.
constexpr std::chrono::milliseconds kReadSpin{20};

class CoreSplit {
 public:
  // Takes the cores that the calling thread may use apart: `threads` of them compute.
  explicit CoreSplit(std::size_t threads);
  // The calling thread may use all of them again.
  ~CoreSplit();
  CoreSplit(const CoreSplit&) = delete;
  CoreSplit& operator=(const CoreSplit&) = delete;

  [[nodiscard]] bool is_split() const { return sets_ != nullptr; }
  // The calling thread, and those that it starts from now on, read; or they compute.
  void read_from_here() const;
  void compute_from_here() const;

 private:
  struct Sets;
  std::unique_ptr<Sets> sets_;  // null where nothing is split
};

}  // namespace moesim
