// Decoding in time: walks the passes of a schedule through the task graph, with one compute agent,
// one store (flash, and tiers of memory before it) and one memory bus. What the experts are, and
// what the cache does, is the session's; this class only asks it and charges time.
//
// Heat and what follows from it change between passes only. Several agents may compute (CPU, NPU,
// GPU), one after the other: the graph of a token is walked as one queue of jobs, so what two of
// them could do at the same time is left out.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "cache/tiered_store.h"
#include "engine/compute_agent.h"
#include "engine/core_use.h"
#include "engine/event_queue.h"
#include "engine/expert_session.h"
#include "engine/forecast.h"
#include "engine/memory_arena.h"
#include "engine/memory_bus.h"
#include "engine/run_observer.h"
#include "engine/sim_event.h"
#include "engine/store_path.h"
#include "engine/task_costs.h"
#include "engine/token_schedule.h"
#include "hardware/device.h"
#include "hardware/thermal.h"
#include "model/moe_model.h"
#include "model/token_graph.h"
#include "prefetch/prefetcher.h"

namespace moesim {

struct SimulationParts {
  const MoeModel* model = nullptr;
  const Device* device = nullptr;
  const TaskCosts* costs = nullptr;  // at the clock that the run begins with, or any other
  ExecutionOptions execution;
  ExpertSession* session = nullptr;
  Prefetcher* prefetcher = nullptr;
  TieredStore* tiers = nullptr;  // null where the device has none
  MemoryArena* arena = nullptr;  // null where everything fits into memory
  const TokenSchedule* schedule = nullptr;
  std::uint64_t seed = 1;
};

class DecodeSimulation {
 public:
  // All parts must outlive the simulation.
  explicit DecodeSimulation(const SimulationParts& parts);

  // Runs the passes [first, end) of the schedule; the clock goes on from the last call. `observer`
  // hears of every pass; with `spans` also of jobs, reads and stalls. Null observer: nobody does.
  void run(std::size_t first, std::size_t end, RunObserver* observer, bool spans);
  // Lets reads that are still under way arrive. Throws InvariantError if anything is left over.
  void drain();

  [[nodiscard]] TimePoint now() const { return queue_.now(); }

  // Event handlers.
  void on(const HostDone& event);
  void on(const FixedDone& event);
  void on(const BusDone& event);
  void on(const HopDone& event);
  void on(const CopyDone& event);

 private:
  // One expert slot of the layer visit under way.
  struct Slot {
    ExpertKey key{};
    AccessKind kind = AccessKind::kHit;
    std::uint64_t bytes = 0;
    std::uint32_t tokens = 1;
    // What a miss reads: the whole expert, or up to two parts of it that lie apart in flash.
    std::array<std::uint64_t, 2> read_bytes{};
    std::uint8_t source = 1;  // of a miss: the tier that has it
    bool low = false;         // it runs at low precision
  };

  void run_pass(const Pass& pass);
  void report(const Pass& pass, TimePoint start);
  void start_ready_tasks();
  void start_task(std::uint32_t id);
  void complete(std::uint32_t id, CauseRef ref, Duration own_time);
  // True for a task that takes no time in this visit: a join, or work on a slot that is unused or
  // whose expert is resident.
  [[nodiscard]] bool takes_no_time(const Task& task) const;
  // Completes such a task, and those after it that only waited for it.
  void pass_over(std::uint32_t id);
  void finish_jobs(const ComputeAgent::Ended& ended);
  void finish_job(std::uint32_t job);
  void finish_transfer(std::uint32_t transfer);
  void submit(std::uint32_t task, const ComputeCost& cost);
  // The agent that computes from here on is another: they must synchronise.
  void change_agent(JobRecord& job, const ComputeCost& cost);
  void submit_admission(std::uint32_t task, ExpertKey key, std::uint64_t bytes, bool speculative,
                        CauseRef cause);
  [[nodiscard]] ReadSizes reads_of(TaskKind kind, const Slot& slot) const;
  void start_fetch(std::uint32_t id, const Slot& slot);
  void plan_layers(const Pass& pass);
  void set_clock(double relative);
  // The clock and the flash rate that follow from the heat.
  void begin_heat();
  void follow_heat();
  [[nodiscard]] double flash_share() const;
  void watch_cores();
  void heat_up();
  void decide_experts(const Task& router);
  void begin_forecast(const Pass& pass);
  void predict(CauseRef cause);
  void read_ahead(CauseRef cause);
  bool begin_speculative(ExpertKey key, CauseRef cause);
  void computed(TaskKind kind, std::uint32_t task, CauseRef cause);
  // Where memory is short: what a task pays for pages, and a job of its own before an admission.
  [[nodiscard]] ComputeCost with_page_faults(const Task& task, ComputeCost cost);
  // A job of so much fixed time in the name of this expert; the caller says which part it is.
  JobRecord& submit_admit_job(ExpertKey key, Duration time, CauseRef cause);
  void submit_page_work(std::uint32_t task, ExpertKey key, CauseRef cause);
  // Ask the tiers behind the cache for the misses of the visit, and for what is read ahead.
  void find_misses(LayerId layer, bool is_union);
  [[nodiscard]] std::uint8_t find_ahead(ExpertKey key);
  void finish_read(std::uint8_t hop);
  // What they did since the last call.
  [[nodiscard]] std::span<const TierCounts> count_tiers();
  [[nodiscard]] const Slot* slot_of(const Task& task) const;

  SimulationParts parts_;
  TaskCosts costs_;  // parts_.costs refers to it: the clock changes within a run
  RoutingShape shape_;
  CompiledGraph token_graph_;
  std::unique_ptr<CompiledGraph> prefill_graph_;  // null where the schedule has no prefill
  EventQueue<SimEvent> queue_;
  MemoryBus bus_;
  ComputeAgent compute_;
  StorePath store_;
  std::unique_ptr<CoreUse> cores_;       // null where lanes cannot take cores from computing
  double lane_share_ = 1;                // of a core, what a lane has
  std::optional<ThermalState> thermal_;  // none where heat is not simulated
  std::uint8_t agent_ = 0;               // of the product submitted last
  RunObserver* observer_ = nullptr;

  // The pass under way.
  const CompiledGraph* graph_ = nullptr;
  const Pass* pass_ = nullptr;
  std::vector<std::uint32_t> executions_;        // [hidden layers], how often its block runs
  std::vector<std::uint32_t> layer_executions_;  // [MoE layers], the same
  std::vector<std::uint16_t> pending_;           // [tasks], predecessors that have not ended
  std::vector<CauseRef> causes_;                 // [tasks], the end that made it ready
  std::vector<Duration> dependency_finish_;      // [tasks], earliest end of its predecessors
  std::vector<std::uint32_t> ready_;             // tasks that can start, from ready_first_
  std::size_t ready_first_ = 0;
  std::vector<Slot> slots_;  // of the layer visit under way
  bool pass_done_ = false;
  std::uint32_t last_job_ = kNoId;
  PassRecord record_;

  // Speculation.
  Forecast forecast_;
  std::vector<std::uint32_t> speculative_transfer_;  // [layers * experts] or kNoId
  std::uint64_t speculative_bytes_ = 0;              // outstanding
  std::vector<ExpertId> executed_;
  std::vector<std::uint32_t> pass_rows_;  // of a pass over several sequences
  CacheCounts counted_;
  FlashCounts flash_counted_;
  std::uint64_t arrived_counted_ = 0;      // bytes that began to move into the cache
  std::vector<TierCounts> tiers_counted_;  // [tiers]
  std::vector<TierCounts> tiers_of_pass_;  // [tiers]
  std::vector<ExpertId> missed_;
  PrefetchCounts prefetch_counted_;
  PageMoves pages_counted_;
};

}  // namespace moesim
