// Decoding in time: walks the passes of a schedule through the task graph, with one compute agent,
// one flash device and one memory bus. What the experts are, and what the cache does, is the
// session's; this class only asks it and charges time.
//
// Left out: heat, memory reclaim, several compute agents, batches.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/compute_agent.h"
#include "engine/event_queue.h"
#include "engine/expert_session.h"
#include "engine/flash_path.h"
#include "engine/memory_bus.h"
#include "engine/run_observer.h"
#include "engine/sim_event.h"
#include "engine/task_costs.h"
#include "engine/token_schedule.h"
#include "hardware/device.h"
#include "model/moe_model.h"
#include "model/token_graph.h"
#include "prefetch/prefetcher.h"

namespace moesim {

struct SimulationParts {
  const MoeModel* model = nullptr;
  const Device* device = nullptr;
  const TaskCosts* costs = nullptr;
  ExecutionOptions execution;
  ExpertSession* session = nullptr;
  Prefetcher* prefetcher = nullptr;
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

 private:
  // One expert slot of the layer visit under way.
  struct Slot {
    ExpertKey key{};
    AccessKind kind = AccessKind::kHit;
    std::uint64_t bytes = 0;
    std::uint32_t tokens = 1;
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
  void submit_admission(std::uint32_t task, ExpertKey key, bool speculative, CauseRef cause);
  void start_fetch(std::uint32_t id, const Slot& slot);
  void plan_layers(const Pass& pass);
  void decide_experts(const Task& router);
  void predict(LayerId layer, CauseRef cause);
  [[nodiscard]] const Slot* slot_of(const Task& task) const;

  SimulationParts parts_;
  RoutingShape shape_;
  CompiledGraph token_graph_;
  std::unique_ptr<CompiledGraph> prefill_graph_;  // null where the schedule has no prefill
  EventQueue<SimEvent> queue_;
  MemoryBus bus_;
  ComputeAgent compute_;
  FlashPath flash_;
  RunObserver* observer_ = nullptr;

  // The pass under way.
  const CompiledGraph* graph_ = nullptr;
  const Pass* pass_ = nullptr;
  std::vector<std::uint32_t> executions_;    // [hidden layers], how often its block runs
  std::vector<std::uint16_t> pending_;       // [tasks], predecessors that have not ended
  std::vector<CauseRef> causes_;             // [tasks], the end that made it ready
  std::vector<Duration> dependency_finish_;  // [tasks], earliest end of its predecessors
  std::vector<std::uint32_t> ready_;         // tasks that can start, from ready_first_
  std::size_t ready_first_ = 0;
  std::vector<Slot> slots_;  // of the layer visit under way
  bool pass_done_ = false;
  std::uint32_t last_job_ = kNoId;
  PassRecord record_;

  // Speculation.
  std::vector<std::uint32_t> speculative_transfer_;  // [layers * experts] or kNoId
  std::uint64_t speculative_bytes_ = 0;              // outstanding
  std::vector<ExpertKey> wanted_;
  std::vector<ExpertId> executed_;
  std::uint32_t last_event_ = 0;
  CacheCounts counted_;
  FlashCounts flash_counted_;
  PrefetchCounts prefetch_counted_;
};

}  // namespace moesim
