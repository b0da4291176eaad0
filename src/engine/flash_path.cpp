#include "engine/flash_path.h"

#include <algorithm>
#include <cmath>

namespace moesim {

FlashPath::FlashPath(const FlashSpec& flash, double dma_factor, const FlashPathOptions& options,
                     EventQueue<SimEvent>& queue, MemoryBus& bus)
    : device_(flash, options.lanes, options.range_bytes),
      dma_factor_(dma_factor),
      options_(options),
      queue_(queue),
      bus_(bus),
      noise_(Rng::for_component(options.seed, "flash")),
      reads_(options.records),
      lane_reads_(device_.lanes(), kNoId),
      last_on_lane_(device_.lanes(), kNoId) {
  transfers_.reserve(options.records);
  free_transfers_.reserve(options.records);
}

std::uint32_t FlashPath::begin(ExpertKey key, const ReadSizes& reads, bool speculative,
                               CauseRef cause) {
  const std::uint32_t id = open(key, reads, speculative, kNoId);
  enqueue(id, reads, speculative, cause);
  return id;
}

std::uint32_t FlashPath::open(ExpertKey key, const ReadSizes& reads, bool speculative,
                              std::uint32_t journey) {
  Transfer transfer;
  transfer.key = key;
  transfer.reads_left = static_cast<std::uint32_t>(reads.count);
  transfer.speculative = speculative;
  transfer.journey = journey;
  for (std::size_t i = 0; i < reads.count; ++i) transfer.bytes += reads.bytes[i];
  if (free_transfers_.empty()) {
    free_transfers_.push_back(static_cast<std::uint32_t>(transfers_.size()));
    transfers_.emplace_back();
  }
  const std::uint32_t id = free_transfers_.back();
  free_transfers_.pop_back();
  transfers_[id] = transfer;
  return id;
}

void FlashPath::enqueue(std::uint32_t id, const ReadSizes& reads, bool speculative,
                        CauseRef cause) {
  Transfer& transfer = transfers_[id];
  transfer.cause = cause;
  transfer.enqueued = queue_.now();
  counts_.reads += reads.count;
  counts_.bytes += transfer.bytes;
  for (std::size_t i = 0; i < reads.count; ++i) {
    const std::uint64_t beyond = reads.bytes[i] % options_.page_bytes;
    if (beyond > 0) counts_.padding += options_.page_bytes - beyond;
    device_.enqueue({id, reads.bytes[i], speculative});
  }
}

void FlashPath::demand(std::uint32_t transfer, std::uint32_t task) {
  Transfer& wanted = transfers_[transfer];
  wanted.waiting[wanted.waiting[0] == kNoId ? 0 : 1] = task;
  if (wanted.speculative) device_.promote(transfer);
}

void FlashPath::promote(std::uint32_t transfer) { device_.promote(transfer); }

void FlashPath::start_reads() {
  while (const auto start = device_.start_next()) {
    const Transfer& transfer = transfers_[start->read.tag];
    ReadRecord record;
    record.transfer = start->read.tag;
    record.enqueued = transfer.enqueued;
    record.cause = transfer.cause;
    record.previous_on_lane = before(start->lane);
    record.span.lane = start->lane;
    record.span.layer = layer_of(transfer.key, options_.experts);
    record.span.expert = expert_of(transfer.key, options_.experts);
    record.span.speculative = start->read.speculative;
    record.span.over_link = options_.is_link;
    record.span.hop = options_.hop;
    record.span.bytes = start->read.bytes;
    record.span.lane_start = queue_.now();
    lane_reads_[start->lane] = reads_.add(record);
    if (cores_ != nullptr) cores_->begin();
    queue_.schedule(device_.host_delay(start->read.bytes),
                    HostDone{static_cast<std::uint32_t>(start->lane), options_.hop});
  }
}

// The read whose end let one on this lane begin: the one before it there, or the one whose
// submission ended just now.
std::uint32_t FlashPath::before(std::size_t lane) const {
  const bool submitted =
      last_submitted_ != kNoId && reads_[last_submitted_].span.host_end == queue_.now();
  return submitted ? last_submitted_ : last_on_lane_[lane];
}

void FlashPath::host_done(std::uint32_t lane) {
  const std::uint32_t id = lane_reads_[lane];
  reads_[id].span.host_end = queue_.now();
  if (cores_ != nullptr) cores_->end();
  if (const auto served = device_.host_done(lane)) begin_service(*served);
  if (!device_.submits_in_turn()) return;
  last_submitted_ = id;
  start_reads();
}

// DMA is charged evenly over the whole service, command time included: what DRAM sees is the mean
// rate, and one event per read is enough.
void FlashPath::begin_service(std::size_t lane) {
  ReadRecord& record = reads_[lane_reads_[lane]];
  record.span.service_start = queue_.now();
  record.previous_on_device = last_on_device_;
  Duration service = device_.service_time_now(record.span.bytes);
  if (options_.noise_sigma > 0) {
    const double sigma = options_.noise_sigma;
    const double factor = std::exp(sigma * noise_.normal() - sigma * sigma / 2);  // mean 1
    service = Duration{std::llround(static_cast<double>(service.count()) * factor)};
  }
  service = std::max(service, Duration{1});
  if (options_.hop > 0) {
    queue_.schedule(service, HopDone{options_.hop});
    return;
  }
  const Wide moved = Wide{dma_bytes(record.span.bytes)} * 1'000'000'000'000U;
  const auto rate = static_cast<std::uint64_t>(moved / static_cast<std::uint64_t>(service.count()));
  bus_.begin(BusAgent::kFlash, service,
             static_cast<BytesPerSecond>(std::max<std::uint64_t>(rate, 1)));
}

std::optional<std::uint32_t> FlashPath::service_done() {
  const FlashDevice::ServiceEnd end = device_.service_done();
  const std::uint32_t id = lane_reads_[end.lane];
  ReadRecord& record = reads_[id];
  record.span.service_end = queue_.now();
  last_on_device_ = id;
  counts_.service += record.span.service_end - record.span.service_start;
  counts_.lane += record.span.service_end - record.span.lane_start;
  if (end.next) begin_service(*end.next);
  if (!device_.bounces()) return arrived(end.lane);
  if (cores_ != nullptr) cores_->begin();
  queue_.schedule(device_.copy_time(record.span.bytes),
                  CopyDone{static_cast<std::uint32_t>(end.lane), options_.hop});
  return std::nullopt;
}

std::optional<std::uint32_t> FlashPath::copy_done(std::uint32_t lane) {
  device_.copy_done(lane);
  if (cores_ != nullptr) cores_->end();
  return arrived(lane);
}

std::optional<std::uint32_t> FlashPath::arrived(std::size_t lane) {
  const std::uint32_t id = lane_reads_[lane];
  ReadRecord& record = reads_[id];
  record.span.end = queue_.now();
  last_on_lane_[lane] = id;
  counts_.copy += record.span.end - record.span.service_end;
  if (observer_ != nullptr) observer_->on_read(record.span);
  Transfer& transfer = transfers_[record.transfer];
  transfer.last_read = id;
  if (--transfer.reads_left > 0) return std::nullopt;
  return record.transfer;
}

Duration FlashPath::unshared_time(const ReadSizes& reads) const {
  Duration longest{};
  for (std::size_t i = 0; i < reads.count; ++i) {
    longest = std::max(longest, device_.host_delay(reads.bytes[i]) +
                                    device_.service_time(reads.bytes[i]) +
                                    device_.copy_time(reads.bytes[i]));
  }
  return longest;
}

Duration FlashPath::device_time(const ReadSizes& reads) const {
  Duration total{};
  for (std::size_t i = 0; i < reads.count; ++i) total += device_.service_time(reads.bytes[i]);
  return total;
}

std::uint64_t FlashPath::dma_bytes(std::uint64_t bytes) const {
  return static_cast<std::uint64_t>(std::llround(static_cast<double>(bytes) * dma_factor_));
}

}  // namespace moesim
