// Reads on their way: transfers (all reads of one expert, or of a part of it) through one queue,
// the flash device or the link of a tier. Where they end in the memory that computes, DMA draws on
// its bus while a read is in service.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "core/rng.h"
#include "engine/core_use.h"
#include "engine/event_queue.h"
#include "engine/memory_bus.h"
#include "engine/records.h"
#include "engine/run_observer.h"
#include "engine/sim_event.h"
#include "engine/task_costs.h"
#include "hardware/device.h"
#include "hardware/flash_device.h"

namespace moesim {

// A group of reads that is complete when the last of them is.
struct Transfer {
  ExpertKey key{};
  std::uint64_t bytes = 0;
  std::uint32_t reads_left = 0;
  std::array<std::uint32_t, 2> waiting{kNoId, kNoId};  // tasks
  bool speculative = false;
  CauseRef cause;
  TimePoint enqueued{};
  std::uint32_t last_read = kNoId;  // id of the read that ended last
  std::uint32_t journey = kNoId;    // that this is a part of, where it ends in a tier in between
};

struct FlashPathOptions {
  std::size_t lanes = 1;
  std::size_t records = 1024;  // reads to remember
  std::size_t experts = 1;     // per layer, to name reads in spans
  double noise_sigma = 0;      // 0: deterministic service
  std::uint64_t seed = 1;
  bool is_link = false;
  std::uint64_t page_bytes = 1;   // reads are whole pages: what is beyond the bytes is padding
  std::uint8_t hop = 0;           // 0 ends in the memory that computes: only its DMA is on the bus
  std::optional<bool> bounce{};   // see ExecutionOptions
  std::uint64_t range_bytes = 0;  // that the reads are spread over: all routed experts
};

class FlashPath {
 public:
  FlashPath(const FlashSpec& flash, double dma_factor, const FlashPathOptions& options,
            EventQueue<SimEvent>& queue, MemoryBus& bus);

  // Queues the reads of an expert, or of a part of it; returns the transfer's id.
  std::uint32_t begin(ExpertKey key, const ReadSizes& reads, bool speculative, CauseRef cause);
  // The same in two steps, where the bytes are not there yet. `journey`: see Transfer.
  std::uint32_t open(ExpertKey key, const ReadSizes& reads, bool speculative,
                     std::uint32_t journey);
  void enqueue(std::uint32_t transfer, const ReadSizes& reads, bool speculative, CauseRef cause);
  // The waiting task needs this speculative transfer now: queued reads become demand reads.
  void demand(std::uint32_t transfer, std::uint32_t task);
  // Its queued reads become demand reads.
  void promote(std::uint32_t transfer);
  // Gives queued reads to idle lanes. Call when everything that happens now has been queued.
  void start_reads();

  void host_done(std::uint32_t lane);
  // The read in service has moved all its bytes. Returns the transfer where this completed it;
  // where reads are bounced, that is for copy_done() to say.
  std::optional<std::uint32_t> service_done();
  // This lane has copied its read. Returns the transfer where this completed it.
  std::optional<std::uint32_t> copy_done(std::uint32_t lane);

  // As those of FlashDevice.
  void set_clock(double relative) { device_.set_clock(relative); }
  void set_derate(double derate) { device_.set_derate(derate); }

  // Valid from begin() to release().
  [[nodiscard]] const Transfer& transfer(std::uint32_t id) const { return transfers_[id]; }
  // A complete transfer has been dealt with; its id may be used again.
  void release(std::uint32_t id) { free_transfers_.push_back(id); }
  [[nodiscard]] const ReadRecord& read(std::uint32_t id) const { return reads_[id]; }
  // Longest time that one of these reads takes at least: nothing else is waited for, and the device
  // spends its shortest time per read.
  [[nodiscard]] Duration unshared_time(const ReadSizes& reads) const;
  // Device time of these reads together.
  [[nodiscard]] Duration device_time(const ReadSizes& reads) const;
  [[nodiscard]] const FlashCounts& counts() const { return counts_; }
  [[nodiscard]] bool idle() const { return device_.idle(); }
  [[nodiscard]] bool is_link() const { return options_.is_link; }
  // DRAM bytes that reading `bytes` from flash moves.
  [[nodiscard]] std::uint64_t dma_bytes(std::uint64_t bytes) const;
  void set_observer(RunObserver* observer) { observer_ = observer; }
  // Lanes tell it when they need a core; null for nobody.
  void set_core_use(CoreUse* cores) { cores_ = cores; }

 private:
  void begin_service(std::size_t lane);
  std::optional<std::uint32_t> arrived(std::size_t lane);
  [[nodiscard]] std::uint32_t before(std::size_t lane) const;

  FlashDevice device_;
  double dma_factor_;
  FlashPathOptions options_;
  EventQueue<SimEvent>& queue_;
  MemoryBus& bus_;
  Rng noise_;
  RunObserver* observer_ = nullptr;
  CoreUse* cores_ = nullptr;
  std::vector<Transfer> transfers_;
  std::vector<std::uint32_t> free_transfers_;  // places in transfers_
  RecordRing<ReadRecord> reads_;
  std::vector<std::uint32_t> lane_reads_;    // [lanes], id of the read that the lane holds
  std::vector<std::uint32_t> last_on_lane_;  // [lanes], id of the read before it
  std::uint32_t last_on_device_ = kNoId;
  std::uint32_t last_submitted_ = kNoId;  // where reads are submitted in turn
  FlashCounts counts_;
};

}  // namespace moesim
