// The way of an expert from the tier that holds it into the expert cache.
//
// Tiers are counted from the cache on: 0 is the cache itself, then the tiers of the device, and
// flash last. Hop i leads from tier i + 1 into tier i and is a queue of its own: the link of a
// tier, or the flash device. An expert, or the part of it that a task reads, arrives whole in a
// tier before it goes on (store and forward). The hops work at the same time.
//
// A machine without tiers has one hop, its flash, and nothing here adds to that.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "engine/flash_path.h"

namespace moesim {

// DRAM bytes that a byte moves on its way into the memory that computes: over the link of a tier,
// and where nothing says whether reads are bounced, what the device says; else that where they are
// bounced, and 1 where they land in place.
double dma_factor_of(const Device& device, std::optional<bool> bounce);

class StorePath {
 public:
  // `options`: of the flash device; links take its sizes. REQUIRES: the device has flash or tiers.
  StorePath(const Device& device, const FlashPathOptions& options, std::size_t keys,
            EventQueue<SimEvent>& queue, MemoryBus& bus);

  // Fetches an expert, or a part of it, from tier `source` (at least 1); returns the transfer's id.
  // Where it is still on its way into that tier, it is waited for.
  std::uint32_t begin(ExpertKey key, const ReadSizes& reads, bool speculative, CauseRef cause,
                      std::uint8_t source);
  // As FlashPath::demand(), on all hops that are left.
  void demand(std::uint32_t transfer, std::uint32_t task);
  // Call when everything that happens now has been queued.
  void start_reads();

  void host_done(const HostDone& event) { hops_[event.hop].host_done(event.lane); }
  // The read in service on this hop has moved its bytes. Returns the transfer where it is now
  // complete in the cache.
  std::optional<std::uint32_t> service_done(std::uint8_t hop);
  // Likewise when a lane has copied its read.
  std::optional<std::uint32_t> copy_done(const CopyDone& event);

  // As those of FlashDevice, of the flash; links keep their rates.
  void set_clock(double relative);
  void set_derate(double derate);

  // Valid from begin() to release().
  [[nodiscard]] const Transfer& transfer(std::uint32_t id) const { return hops_[0].transfer(id); }
  void release(std::uint32_t id) { hops_[0].release(id); }
  [[nodiscard]] const ReadRecord& read(const CauseRef& ref) const {
    return hops_[ref.hop].read(ref.id);
  }
  // Longest time that one of these reads takes when nothing else is going on, summed over the hops
  // of the transfer.
  [[nodiscard]] Duration unshared_time(const ReadSizes& reads, std::uint32_t transfer) const;
  // Device time that these reads take of the flash when they begin in tier `source`.
  [[nodiscard]] Duration flash_time(const ReadSizes& reads, std::uint8_t source) const;
  // Of the flash device; zeros where there is none.
  [[nodiscard]] FlashCounts flash_counts() const;
  [[nodiscard]] const FlashCounts& hop_counts(std::size_t hop) const { return hops_[hop].counts(); }
  [[nodiscard]] bool idle() const;
  // Bytes that DMA of so many bytes moves in the memory that computes.
  [[nodiscard]] std::uint64_t dma_bytes(std::uint64_t bytes) const {
    return hops_[0].dma_bytes(bytes);
  }
  void set_observer(RunObserver* observer);
  // Lanes of the flash device tell it when they need a core. REQUIRES: it outlives this.
  void set_core_use(CoreUse& cores);

 private:
  // A transfer over several hops, by the id that it has on the last of them.
  struct Journey {
    ReadSizes reads;
    std::uint8_t source = 1;
    std::uint8_t hop = 0;             // under way on it, where `part` is set
    bool demanded = false;            // also where only another that waits for it is
    std::uint32_t part = kNoId;       // the transfer on that hop; kNoId on hop 0 and while waiting
    std::uint32_t waits_for = kNoId;  // journey that brings the expert into `source`
    std::uint32_t first_waiting = kNoId;  // the list of those that wait for this one
    std::uint32_t next_waiting = kNoId;
  };

  void start_hop(std::uint32_t id, std::uint8_t hop, CauseRef cause);
  void wait(std::uint32_t id, std::uint32_t other);
  // From now on demand, and so is what it waits for.
  void hurry(std::uint32_t id);
  void arrive(std::uint32_t id, std::uint8_t tier, CauseRef cause);
  std::optional<std::uint32_t> complete(std::uint8_t hop, std::optional<std::uint32_t> done);
  // The journey that brings `key` into `tier`, or kNoId. REQUIRES: 0 < tier < hops.
  std::uint32_t& arrival(std::uint8_t tier, ExpertKey key) {
    return arrivals_[(tier - 1U) * keys_ + index(key)];
  }

  std::vector<FlashPath> hops_;
  std::size_t keys_;
  std::vector<Journey> journeys_;        // by transfer of hop 0; unused where there is one hop
  std::vector<std::uint32_t> arrivals_;  // [hops - 1, keys]
};

}  // namespace moesim
