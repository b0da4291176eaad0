#include "calibration/real_experts.h"

#include <algorithm>
#include <array>

#include "core/errors.h"

namespace moesim {
namespace {

using Run = std::pair<Slice, Slice>;  // slices that one read takes, first and last

// The reads of the slices from `first` to `last`, as TaskCosts::reads has them.
std::vector<Run> runs_of(ExpertLayout layout, Slice first, Slice last) {
  if (layout == ExpertLayout::kContiguous) return {{first, last}};
  const bool gate_and_up = first == Slice::kGate && last != Slice::kGate;
  std::vector<Run> runs;
  runs.reserve(3);
  if (gate_and_up && layout == ExpertLayout::kFused) {
    runs.emplace_back(Slice::kGate, Slice::kUp);
    if (last == Slice::kDown) runs.emplace_back(Slice::kDown, Slice::kDown);
    return runs;
  }
  for (const Slice slice : {Slice::kGate, Slice::kUp, Slice::kDown}) {
    if (slice >= first && slice <= last) runs.emplace_back(slice, slice);
  }
  return runs;
}

std::size_t keys_of(const StoreShape& shape) { return shape.layers * shape.experts; }

}  // namespace

RealExperts::RealExperts(const ExpertStore& store, std::unique_ptr<StoreReader> reader,
                         const RealExpertOptions& options)
    : store_(store), options_(options), reader_(std::move(reader)) {
  const std::size_t keys = keys_of(store.shape());
  if (options.path == ReadPath::kMmap) {
    mapped_ = std::make_unique<MappedStore>(store.path());
    is_mapped_.resize(keys, 0);
  } else {
    if (reader_ == nullptr) throw InvariantError("experts are to be read, but there is no reader");
    arena_.emplace(std::min(options.slots, keys), store.layout().record_bytes(), keys);
  }
}

std::uint64_t RealExperts::file_offset(ExpertKey key) const {
  const std::size_t experts = store_.shape().experts;
  return store_.offset(index(key) / experts, index(key) % experts);
}

bool RealExperts::has(ExpertKey key) const {
  return mapped_ ? is_mapped_[index(key)] != 0 : arena_->find(key) != nullptr;
}

void RealExperts::place(ExpertKey key) {
  if (has(key)) return;
  if (mapped_) {
    is_mapped_[index(key)] = 1;
  } else {
    arena_->place(key);
  }
}

std::size_t RealExperts::read(ExpertKey key, Slice first, Slice last, std::uint32_t tag,
                              ThreadTeam& team) {
  if (mapped_) return fault_in(key, first, last, team);
  std::size_t reads = 0;
  for (const auto& [from, to] : runs_of(options_.layout, first, last)) {
    submit(key, from, to, tag);
    ++reads;
  }
  return reads;
}

RealExperts::Range RealExperts::count(Slice first, Slice last) {
  const RecordLayout& layout = store_.layout();
  const Range range{layout.offset(first), layout.offset(last) + layout.padded_bytes(last)};
  std::size_t weights = 0;
  for (const Slice slice : {Slice::kGate, Slice::kUp, Slice::kDown}) {
    if (slice >= first && slice <= last) weights += layout.bytes(slice);
  }
  counts_.bytes += weights;
  counts_.padding += range.end - range.begin - weights;
  return range;
}

void RealExperts::submit(ExpertKey key, Slice first, Slice last, std::uint32_t tag) {
  std::byte* const record = arena_->find(key);
  if (record == nullptr) throw InvariantError("an expert without a place was to be read");
  const Range range = count(first, last);
  ++counts_.reads;
  reader_->submit(
      {file_offset(key) + range.begin, range.end - range.begin, record + range.begin, tag});
}

// Each thread is a lane that reads its share, as in TaskCosts.
std::size_t RealExperts::fault_in(ExpertKey key, Slice first, Slice last, ThreadTeam& team) {
  const Range range = count(first, last);
  const std::size_t threads = std::min(team.size(), kMostReads);
  counts_.reads += threads;
  const auto start = std::chrono::steady_clock::now();
  mapped_->fault_in(file_offset(key) + range.begin, range.end - range.begin, team);
  fault_time_ += (std::chrono::steady_clock::now() - start) * threads;
  return 0;
}

std::optional<std::uint32_t> RealExperts::poll() {
  if (!reader_ || reader_->outstanding() == 0) return std::nullopt;
  return reader_->poll();
}

std::uint32_t RealExperts::wait() {
  if (!reader_) throw InvariantError("a read was waited for that nobody has begun");
  return reader_->wait();
}

void RealExperts::load(ExpertKey key, ThreadTeam& team) {
  place(key);
  for (std::size_t left = read(key, Slice::kGate, Slice::kDown, 0, team); left > 0; --left) wait();
}

ExpertWeights RealExperts::weights(ExpertKey key) const {
  const RecordLayout& layout = store_.layout();
  if (!has(key)) throw InvariantError("an expert that was not read was to be computed");
  const std::byte* const record =
      mapped_ ? mapped_->bytes(file_offset(key), layout.record_bytes()).data() : arena_->find(key);
  return layout.weights(record);
}

void RealExperts::release(ExpertKey key) {
  if (mapped_) {
    is_mapped_[index(key)] = 0;
    mapped_->drop(file_offset(key), store_.layout().record_bytes());
  } else {
    arena_->release(key);
  }
}

std::chrono::nanoseconds RealExperts::lane_time() const {
  return mapped_ ? fault_time_ : reader_->lane_time();
}

}  // namespace moesim
