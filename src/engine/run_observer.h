// What a run reports while it goes on. The engine knows no metric; metrics and timelines implement
// this. Spans and references are valid during the call only.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "cache/cache_accounting.h"
#include "core/units.h"
#include "engine/expert_session.h"
#include "engine/page_reclaim.h"
#include "engine/token_schedule.h"
#include "model/token_graph.h"

namespace moesim {

// Parts of the compute agent's wall clock; together they are the whole of it.
enum class TimePart : std::uint8_t { kCompute, kFlashStall, kAdmission, kPredictor, kOverhead };
inline constexpr std::size_t kTimeParts = 5;
const char* to_string(TimePart part);

// What the longest chain of causes of a token spent its time on.
enum class PathPart : std::uint8_t {
  kAttention,
  kDenseFfn,
  kRouter,
  kExperts,
  kSharedExperts,
  kHead,
  kFlashDevice,  // a read in service, or its wait for the device behind reads before it
  kFlashHost,    // the host delay of a read, and its copy out of a bounce buffer
  kAdmission,
  kPredictor,
  kOverhead,
  kLink  // a transfer over the link of a tier, or its wait for those before it; 0 without tiers
};
inline constexpr std::size_t kPathParts = 12;
const char* to_string(PathPart part);

template <std::size_t Parts>
using Durations = std::array<Duration, Parts>;

// Reads of a pass: numbers and bytes of those that began in it (all of them arrive before the run
// ends), times of those that ended in it.
struct FlashCounts {
  std::uint64_t reads = 0;
  std::uint64_t bytes = 0;
  std::uint64_t padding = 0;  // what whole pages have beyond these bytes; never charged
  Duration service{};         // device time
  Duration lane{};            // from taking a lane to the end of service, summed over lanes
  Duration copy{};            // that lanes were held after it, copying

  FlashCounts operator-(const FlashCounts& earlier) const {
    return {reads - earlier.reads,     bytes - earlier.bytes, padding - earlier.padding,
            service - earlier.service, lane - earlier.lane,   copy - earlier.copy};
  }
  FlashCounts& operator+=(const FlashCounts& more) {
    reads += more.reads;
    bytes += more.bytes;
    padding += more.padding;
    service += more.service;
    lane += more.lane;
    copy += more.copy;
    return *this;
  }
};

// What a tier behind the expert cache was asked for, and what went over its link.
struct TierCounts {
  CacheCounts cache;
  FlashCounts link;

  TierCounts operator-(const TierCounts& earlier) const {
    return {cache - earlier.cache, link - earlier.link};
  }
  TierCounts& operator+=(const TierCounts& more) {
    cache += more.cache;
    link += more.link;
    return *this;
  }
};

// One pass through the model: a decoded token or a prefill.
struct PassRecord {
  const Pass* pass = nullptr;
  TimePoint start{};
  TimePoint end{};
  Durations<kTimeParts> parts{};      // sum to end - start
  Durations<kPathParts> path{};       // sum to end - start
  Duration dependency{};              // longest chain with no resource shared
  Duration flash_bound{};             // device time of the reads that began in this pass
  std::uint64_t dram_bytes = 0;       // moved by compute and by DMA
  std::uint64_t compute_bytes = 0;    // weight and key-value bytes through the cores
  CacheCounts cache;                  // of this pass
  FlashCounts flash;                  // of this pass
  PrefetchCounts prefetch;            // of this pass
  std::span<const TierCounts> tiers;  // of this pass, nearest first; empty where there are none
  std::uint64_t experts = 0;          // distinct ones that ran, all layers
  PageMoves pages;                    // of this pass; zeros where memory suffices
  std::uint64_t expert_bytes = 0;     // of compute_bytes, those of routed experts
  // At the beginning of the pass; as a run without heat leaves them where that is not simulated.
  double clock_ghz = 0;
  double heat = 0;
  bool flash_is_derated = false;
};

// A job of the compute agent.
struct JobSpan {
  TaskKind kind{};
  TimePart part{};
  bool speculative = false;  // admission of a speculative read
  std::uint16_t hidden_layer = 0;
  std::uint32_t expert = 0;
  bool has_expert = false;
  TimePoint start{};
  Duration fixed{};  // of it, spent on fixed costs
  TimePoint end{};
};

// A read through one lane, or a transfer over a link.
struct ReadSpan {
  std::size_t lane = 0;
  LayerId layer{};
  ExpertId expert{};
  bool speculative = false;
  bool over_link = false;  // of a tier, not a read of flash
  std::uint8_t hop = 0;    // 0 ends in the expert cache
  std::uint64_t bytes = 0;
  TimePoint lane_start{};
  TimePoint host_end{};
  TimePoint service_start{};
  TimePoint service_end{};
  TimePoint end{};  // of the copy, where reads are bounced: the bytes have arrived
};

class RunObserver {
 public:
  virtual ~RunObserver() = default;
  // A layer visit has been decided. `pass` says whether it is measured.
  virtual void on_visit(const Pass& /*pass*/, LayerId /*layer*/, const VisitOutcome& /*visit*/,
                        TimePoint /*at*/) {}
  virtual void on_pass(const PassRecord& /*record*/) {}
  virtual void on_job(const JobSpan& /*job*/) {}
  virtual void on_read(const ReadSpan& /*read*/) {}
  // Time for which the compute agent had nothing to do but wait for a read.
  virtual void on_stall(TimePoint /*start*/, TimePoint /*end*/) {}
};

// Passes everything on to several observers, in order.
class ObserverList final : public RunObserver {
 public:
  void add(RunObserver& observer) { observers_.push_back(&observer); }

  void on_visit(const Pass& pass, LayerId layer, const VisitOutcome& visit, TimePoint at) override {
    for (RunObserver* observer : observers_) observer->on_visit(pass, layer, visit, at);
  }
  void on_pass(const PassRecord& record) override {
    for (RunObserver* observer : observers_) observer->on_pass(record);
  }
  void on_job(const JobSpan& job) override {
    for (RunObserver* observer : observers_) observer->on_job(job);
  }
  void on_read(const ReadSpan& read) override {
    for (RunObserver* observer : observers_) observer->on_read(read);
  }
  void on_stall(TimePoint start, TimePoint end) override {
    for (RunObserver* observer : observers_) observer->on_stall(start, end);
  }

 private:
  std::vector<RunObserver*> observers_;
};

}  // namespace moesim
