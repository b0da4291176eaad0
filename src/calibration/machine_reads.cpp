// The reads of calibration/machine_local.h: scratch file, cells of the table, page faults.
#include <algorithm>
#include <limits>
#include <numeric>
#include <optional>
#include <utility>

#include "calibration/machine_facts.h"
#include "calibration/machine_local.h"
#include "core/rng.h"
#include "kernels/store/mapped_store.h"

namespace moesim {
namespace {

constexpr std::uint64_t kLeastScratch = std::uint64_t{16} << 20;
constexpr std::size_t kMostReads = 20000;  // of one repetition

// Completions of a queue that is never empty.
class Completions {
 public:
  Completions(std::size_t depth, double slice_s) : depth_(depth), slice_s_(slice_s) {
    times_.reserve(kMostReads);
  }

  void add(double now_s) { times_.push_back(now_s); }
  // Whether the time is used and enough have come.
  [[nodiscard]] bool enough(double start_s) const {
    constexpr std::size_t kLeast = 4;
    if (times_.size() >= kMostReads) return true;
    return times_.size() >= 2 * depth_ + kLeast && times_.back() - start_s >= slice_s_;
  }
  [[nodiscard]] std::size_t count() const { return times_.size(); }
  [[nodiscard]] bool empty() const { return times_.size() < 2; }
  // Without the first ones, which all lanes began together; where there are only few, with them.
  [[nodiscard]] double rate(std::uint64_t read_bytes) const {
    const std::size_t first = times_.size() > depth_ + 1 ? depth_ - 1 : 0;
    const auto reads = static_cast<double>(times_.size() - 1 - first);
    const double seconds = times_.back() - times_[first];
    constexpr double kTick = 1e-9;
    return reads * static_cast<double>(read_bytes) / std::max(seconds, kTick);
  }
  [[nodiscard]] std::vector<double> gaps() const {
    std::vector<double> gaps;
    gaps.reserve(times_.size());
    for (std::size_t i = 1; i < times_.size(); ++i) gaps.push_back(times_[i] - times_[i - 1]);
    return gaps;
  }

 private:
  std::size_t depth_;
  double slice_s_;
  std::vector<double> times_;
};

}  // namespace

std::uint64_t LocalMachine::write_scratch(double budget_s, const std::function<void()>& tick) {
  const double start = now_s();
  file_.fill(options_.disk_bytes, std::min(kLeastScratch, options_.disk_bytes), options_.direct,
             [&] {
               tick();
               return now_s() - start >= budget_s;
             });
  targets_ = std::make_unique<PageMemory>(kReadTargetBytes);
  return file_.size();
}

std::unique_ptr<StoreReader> LocalMachine::reader(const ReadCell& cell,
                                                  const CoreSplit& cores) const {
  ReaderOptions options;
  options.access = options_.direct ? ReadAccess::kDirect : ReadAccess::kBuffered;
  if (cores.is_split()) options.spin = kReadSpin;
  cores.read_from_here();
  auto made = cell.method == ReadMethod::kUring
                  ? make_uring_reader(file_.path(), cell.depth, options)
                  : make_lane_reader(file_.path(), cell.depth, options);
  cores.compute_from_here();
  return made;
}

std::size_t LocalMachine::blocks_of(std::uint64_t read_bytes) const {
  return static_cast<std::size_t>(file_.size() / read_bytes);
}

std::uint64_t LocalMachine::next_offset(const ReadCell& cell) {
  Blocks& blocks = blocks_[cell.read_bytes];
  if (blocks.order.empty()) {
    blocks.order.resize(blocks_of(cell.read_bytes));
    std::iota(blocks.order.begin(), blocks.order.end(), 0U);
    Rng rng = Rng::for_component(cell.read_bytes, "order of reads");
    for (std::size_t i = blocks.order.size(); i > 1; --i) {
      std::swap(blocks.order[i - 1], blocks.order[rng.below(i)]);
    }
  }
  const std::size_t at = blocks.next++ % blocks.order.size();
  return (cell.sequential ? at : blocks.order[at]) * cell.read_bytes;
}

// One read more than there are lanes is always queued for each lane, so that none waits for this
// thread. Buffered reads end when every block has been read once: the page cache has them then.
ReadSample LocalMachine::read(const ReadCell& cell, double slice_s) {
  if (!options_.direct) file_.drop_cache();
  const std::size_t most =
      options_.direct ? std::numeric_limits<std::size_t>::max() : blocks_of(cell.read_bytes);
  const std::size_t slots = static_cast<std::size_t>(kReadTargetBytes / cell.read_bytes);
  const CoreSplit cores(1);  // as where one thread decodes
  const auto reading = reader(cell, cores);
  std::size_t submitted = 0;
  const auto submit = [&] {
    if (submitted >= most) return;
    std::byte* const target = targets_->data() + (submitted % slots) * cell.read_bytes;
    reading->submit({next_offset(cell), static_cast<std::size_t>(cell.read_bytes), target,
                     static_cast<std::uint32_t>(submitted)});
    ++submitted;
  };
  Completions done(cell.depth, slice_s);
  const double start = now_s();
  for (std::size_t i = 0; i < 2 * cell.depth; ++i) submit();
  const auto is_full = [&] {
    return reading->outstanding() > cell.depth || done.count() < cell.depth + 2;
  };
  while (reading->outstanding() > 0 && is_full() && !done.enough(start)) {
    reading->wait();
    done.add(now_s());
    submit();
  }
  ReadSample sample;
  if (!done.empty()) sample.bytes_per_s = done.rate(cell.read_bytes);
  if (cell.depth == 1) sample.read_s = done.gaps();
  return sample;
}

FaultSample LocalMachine::fault(std::uint64_t bytes) {
  MappedStore mapped(file_.path());
  if (next_fault_ + bytes > file_.size()) next_fault_ = 0;
  const std::uint64_t offset = next_fault_;
  next_fault_ += bytes;
  const auto count = static_cast<std::size_t>(bytes);
  file_.drop_cache();
  mapped.drop(offset, count);
  FaultSample sample{bytes, major_faults(), 0};
  const double start = now_s();
  mapped.fault_in(offset, count, team(1));
  sample.seconds = now_s() - start;
  sample.faults = major_faults() - sample.faults;
  mapped.drop(offset, count);
  return sample;
}

}  // namespace moesim
