// What the runs of a sweep do once together. Every result is, to the byte, that of a run on its
// own.
//
// Without time a run whose routing does not look at the cache is three things that depend on
// different settings: its routing (experts and proxies), what a cache counts on these accesses, and
// the bounds. The first is run once for all caches; the second comes from a replay of the accesses,
// or for LRU from one pass for all capacities (engine/lru_curve.h).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "api/run.h"
#include "core/once_map.h"
#include "engine/lru_curve.h"
#include "engine/run_share.h"

namespace moesim {

struct OfflineRates {
  double belady = 0;
  OfflineHitRates others;
};

// Any thread may use it.
class SharedRuns {
 public:
  [[nodiscard]] RunShare& share() { return share_; }
  // Checksums of files, each read once.
  [[nodiscard]] FileSum file_sum();

  // The run of `plan` is to come: its capacity is counted with those of others. Before any
  // derive().
  void announce(const RunPlan& plan);
  // Whether derive() takes this plan.
  [[nodiscard]] static bool can_derive(const RunPlan& plan);
  // The result of the plan, bounds apart. `run`: makes it the ordinary way; called for one of the
  // plans that have their routing in common. REQUIRES: can_derive(plan), `plan` has not been run.
  RunResult derive(const RunPlan& plan, const std::function<RunResult()>& run);
  // The bounds on the accesses that `key` stands for in the plan's cache.
  OfflineRates offline(const RunPlan& plan, const std::string& key,
                       const std::function<OfflineRates()>& measure);

 private:
  struct Routed {
    RunResult result;
    std::vector<std::string> warnings;  // but those of the plan
  };
  using Curve = std::map<std::uint64_t, ReplayCounts>;  // by capacity

  ReplayCounts count(const RunPlan& plan);
  [[nodiscard]] std::vector<std::uint64_t> capacities(const std::string& family);

  RunShare share_;
  OnceMap<std::string> sums_{1024};
  OnceMap<Routed> routed_{64};
  OnceMap<Curve> curves_{64};
  OnceMap<OfflineRates> offline_{65536};
  std::mutex mutex_;
  std::map<std::string, std::set<std::uint64_t>> families_;  // capacities of LRU caches
};

}  // namespace moesim
