#include "engine/store_path.h"

#include <algorithm>
#include <cmath>

namespace moesim {

double dma_factor_of(const Device& device, std::optional<bool> bounce) {
  const bool in_place = device.tiers.empty() && bounce && !*bounce;
  return in_place ? 1.0 : device.dram.dma_factor;
}

StorePath::StorePath(const Device& device, const FlashPathOptions& options, std::size_t keys,
                     EventQueue<SimEvent>& queue, MemoryBus& bus)
    : keys_(keys) {
  const double dma_factor = dma_factor_of(device, options.bounce);
  hops_.reserve(device.tiers.size() + 1);
  FlashPathOptions link = options;
  link.lanes = 1;
  link.noise_sigma = 0;
  link.is_link = true;
  for (const TierSpec& tier : device.tiers) {
    link.hop = static_cast<std::uint8_t>(hops_.size());
    hops_.emplace_back(link_queue(tier.link), dma_factor, link, queue, bus);
  }
  if (device.flash) {
    FlashPathOptions flash = options;
    flash.page_bytes = static_cast<std::uint64_t>(std::llround(device.memory.page_kib * 1024.0));
    flash.hop = static_cast<std::uint8_t>(hops_.size());
    FlashSpec spec = *device.flash;
    if (!options.bounce.value_or(false)) spec.bounce_gbps = 0;
    hops_.emplace_back(spec, dma_factor, flash, queue, bus);
  }
  if (hops_.size() == 1) return;
  journeys_.reserve(options.records);
  arrivals_.assign((hops_.size() - 1) * keys, kNoId);
}

std::uint32_t StorePath::begin(ExpertKey key, const ReadSizes& reads, bool speculative,
                               CauseRef cause, std::uint8_t source) {
  if (hops_.size() == 1) return hops_[0].begin(key, reads, speculative, cause);
  const std::uint32_t id = hops_[0].open(key, reads, speculative, kNoId);
  if (id >= journeys_.size()) journeys_.resize(id + std::size_t{1});
  Journey& journey = journeys_[id];
  journey = {};
  journey.reads = reads;
  journey.source = source;
  journey.demanded = !speculative;
  const std::uint32_t other = source < hops_.size() ? arrival(source, key) : kNoId;
  for (std::uint8_t tier = 1; tier < source; ++tier) arrival(tier, key) = id;
  if (other != kNoId) {
    wait(id, other);
    if (!speculative) hurry(id);
  } else {
    start_hop(id, static_cast<std::uint8_t>(source - 1), cause);
  }
  return id;
}

void StorePath::start_hop(std::uint32_t id, std::uint8_t hop, CauseRef cause) {
  Journey& journey = journeys_[id];
  const bool speculative = !journey.demanded;
  journey.hop = hop;
  if (hop == 0) {
    journey.part = kNoId;
    hops_[0].enqueue(id, journey.reads, speculative, cause);
    return;
  }
  const ExpertKey key = hops_[0].transfer(id).key;
  journey.part = hops_[hop].open(key, journey.reads, speculative, id);
  hops_[hop].enqueue(journey.part, journey.reads, speculative, cause);
}

// At the end of the list, so that those that wait go on in the order in which they came.
void StorePath::wait(std::uint32_t id, std::uint32_t other) {
  journeys_[id].waits_for = other;
  std::uint32_t* place = &journeys_[other].first_waiting;
  while (*place != kNoId) place = &journeys_[*place].next_waiting;
  *place = id;
}

void StorePath::arrive(std::uint32_t id, std::uint8_t tier, CauseRef cause) {
  std::uint32_t& arriving = arrival(tier, hops_[0].transfer(id).key);
  if (arriving == id) arriving = kNoId;
  start_hop(id, static_cast<std::uint8_t>(tier - 1), cause);
  std::uint32_t* place = &journeys_[id].first_waiting;
  while (*place != kNoId) {
    const std::uint32_t waiting = *place;
    Journey& journey = journeys_[waiting];
    if (journey.source != tier) {
      place = &journey.next_waiting;
      continue;
    }
    *place = journey.next_waiting;
    journey.next_waiting = kNoId;
    journey.waits_for = kNoId;
    start_hop(waiting, static_cast<std::uint8_t>(tier - 1), cause);
  }
}

void StorePath::demand(std::uint32_t transfer, std::uint32_t task) {
  hops_[0].demand(transfer, task);
  if (hops_.size() > 1) hurry(transfer);
}

// One that is on hop 0 has arrived wherever others wait, so only this one can be queued there.
void StorePath::hurry(std::uint32_t id) {
  for (; id != kNoId; id = journeys_[id].waits_for) {
    Journey& journey = journeys_[id];
    if (!journey.demanded && journey.part != kNoId) hops_[journey.hop].promote(journey.part);
    journey.demanded = true;
  }
}

void StorePath::start_reads() {
  for (FlashPath& hop : hops_) hop.start_reads();
}

std::optional<std::uint32_t> StorePath::service_done(std::uint8_t hop) {
  return complete(hop, hops_[hop].service_done());
}

std::optional<std::uint32_t> StorePath::copy_done(const CopyDone& event) {
  return complete(event.hop, hops_[event.hop].copy_done(event.lane));
}

std::optional<std::uint32_t> StorePath::complete(std::uint8_t hop,
                                                 std::optional<std::uint32_t> done) {
  if (!done || hop == 0) return done;
  const Transfer& part = hops_[hop].transfer(*done);
  const std::uint32_t id = part.journey;
  const CauseRef cause{CauseRef::Kind::kRead, part.last_read, hop};
  hops_[hop].release(*done);
  arrive(id, hop, cause);
  return std::nullopt;
}

Duration StorePath::unshared_time(const ReadSizes& reads, std::uint32_t transfer) const {
  const std::size_t hops = hops_.size() == 1 ? 1 : journeys_[transfer].source;
  Duration total{};
  for (std::size_t hop = 0; hop < hops; ++hop) total += hops_[hop].unshared_time(reads);
  return total;
}

Duration StorePath::flash_time(const ReadSizes& reads, std::uint8_t source) const {
  if (source < hops_.size() || hops_.back().is_link()) return Duration::zero();
  return hops_.back().device_time(reads);
}

FlashCounts StorePath::flash_counts() const {
  return hops_.back().is_link() ? FlashCounts{} : hops_.back().counts();
}

void StorePath::set_clock(double relative) {
  if (!hops_.back().is_link()) hops_.back().set_clock(relative);
}

void StorePath::set_derate(double derate) {
  if (!hops_.back().is_link()) hops_.back().set_derate(derate);
}

bool StorePath::idle() const {
  return std::all_of(hops_.begin(), hops_.end(), [](const FlashPath& hop) { return hop.idle(); });
}

void StorePath::set_core_use(CoreUse& cores) {
  if (!hops_.back().is_link()) hops_.back().set_core_use(&cores);
}

void StorePath::set_observer(RunObserver* observer) {
  for (FlashPath& hop : hops_) hop.set_observer(observer);
}

}  // namespace moesim
