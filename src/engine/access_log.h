// The expert accesses of a whole run written down: the future that offline policies look into, and
// what the offline-optimal bounds are replayed on.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "cache/cache_accounting.h"
#include "cache/expert_cache.h"
#include "cache/future_accesses.h"
#include "engine/expert_session.h"
#include "engine/run_observer.h"
#include "engine/token_schedule.h"

namespace moesim {

// One cache event beside its experts (FutureAccesses holds those, in the order of the cache).
struct LoggedEvent {
  LayerId layer{};
  bool is_union = false;       // of several tokens, in touch order
  bool measured = false;       // counts towards the result
  bool resets_before = false;  // the cache is emptied first (a new sequence with cache.reset)
  bool is_prefill = false;     // of a prefill pass
  std::uint32_t token = 0;     // what lifetimes are measured in: decode passes begun so far
};

class AccessLog {
 public:
  // `events` and `accesses`: room to take in advance, so that recording does not allocate.
  AccessLog(RoutingShape shape, std::size_t events, std::size_t accesses);

  void add(const LoggedEvent& event, std::span<const Access> accesses);
  void finish() { accesses_.finish(); }

  [[nodiscard]] const FutureAccesses& accesses() const { return accesses_; }
  [[nodiscard]] const LoggedEvent& event(std::size_t number) const { return events_[number]; }
  [[nodiscard]] std::size_t events() const { return events_.size(); }

 private:
  RoutingShape shape_;
  FutureAccesses accesses_;
  std::vector<LoggedEvent> events_;
  std::vector<ExpertKey> keys_;  // scratch
};

// Writes down what a run executes, while it goes on.
class AccessRecorder final : public RunObserver {
 public:
  AccessRecorder(AccessLog& log, CacheReset reset) : log_(log), reset_(reset) {}
  void on_visit(const Pass& pass, LayerId layer, const VisitOutcome& visit, TimePoint at) override;
  void on_pass(const PassRecord& record) override;

 private:
  void begin_pass(const Pass& pass);

  AccessLog& log_;
  CacheReset reset_;
  const Pass* begun_ = nullptr;  // the pass under way
  bool resets_ = false;          // before the next event
  std::uint32_t token_ = 0;
};

// Walks the schedule with a session whose routing does not look at the cache and writes down what
// it accesses. The session's own cache plays no part in it.
// REQUIRES: !session.routing().looks_at_residency().
AccessLog record_accesses(ExpertSession& session, const TokenSchedule& schedule, CacheReset reset);

struct ReplayCounts {
  CacheCounts measured;  // of the measured events
  CacheCounts prefill;
};

// Replays the log through a cache with the given options and policy. `expert_bytes`: [layers *
// experts], what a miss reads.
ReplayCounts replay_accesses(const AccessLog& log, const CacheOptions& options,
                             std::unique_ptr<EvictionPolicy> policy,
                             std::span<const std::uint64_t> expert_bytes);

}  // namespace moesim
