#include "engine/batch_schedule.h"

#include <algorithm>
#include <array>
#include <utility>

#include "core/errors.h"

namespace moesim {
namespace {

// The passes of one sequence: [first, end) of the schedule without batches.
struct Stretch {
  std::size_t first = 0;
  std::size_t end = 0;
};

std::vector<Stretch> sequences_of(const TokenSchedule& singles) {
  std::vector<Stretch> result;
  const std::vector<Pass>& passes = singles.passes;
  for (std::size_t i = 0; i < passes.size(); ++i) {
    if (i == 0 || passes[i].sequence != passes[i - 1].sequence) result.push_back({i, i});
    result.back().end = i + 1;
  }
  return result;
}

class LockStep {
 public:
  LockStep(const TokenSchedule& singles, const BatchOptions& batch, std::size_t warmup_tokens,
           std::size_t bits, const AppendPath& append)
      : singles_(singles),
        size_(batch.size),
        lanes_(batch.scheduler == TokenSchedulerKind::kNone ? batch.size : 2 * batch.size),
        warmup_tokens_(warmup_tokens),
        append_(append),
        sequences_(sequences_of(singles)),
        paths_(bits) {
    lanes_ = std::min(lanes_, std::max<std::size_t>(1, sequences_.size()));
    lane_taken_.assign(lanes_, false);
    schedule_.lanes = lanes_;
    schedule_.tokens_in_pass = std::min(size_, lanes_);
    schedule_.prefill_tokens = singles.prefill_tokens;
    // Exactly as many: passes point into it.
    schedule_.batch_tokens.reserve(singles.warmup_tokens + singles.measured_tokens);
    if (batch.scheduler != TokenSchedulerKind::kNone) schedule_.scheduler.emplace();
  }

  TokenSchedule build() {
    for (fill(); !active_.empty(); fill()) step();
    return std::move(schedule_);
  }

 private:
  // A sequence under way.
  struct Stream {
    Stretch left;  // its passes to come
    std::uint32_t lane = 0;
    std::uint8_t batch = kNew;  // which of the step's two passes it was in last
  };
  static constexpr std::uint8_t kNew = 2;

  // Lets sequences run up to their next decoded token, and others take the place of those that
  // have none left.
  void fill() {
    for (Stream& stream : active_) prefill(stream);
    std::erase_if(active_, [this](const Stream& stream) { return leaves(stream); });
    while (active_.size() < lanes_ && next_sequence_ < sequences_.size()) {
      const auto lane = std::find(lane_taken_.begin(), lane_taken_.end(), false);
      *lane = true;
      active_.push_back({sequences_[next_sequence_++],
                         static_cast<std::uint32_t>(lane - lane_taken_.begin()), kNew});
      prefill(active_.back());
      if (leaves(active_.back())) active_.pop_back();
    }
  }

  bool leaves(const Stream& stream) {
    if (stream.left.first < stream.left.end) return false;
    lane_taken_[stream.lane] = false;
    return true;
  }

  void prefill(Stream& stream) {
    for (; stream.left.first < stream.left.end; ++stream.left.first) {
      const Pass& pass = singles_.passes[stream.left.first];
      if (pass.phase == Phase::kDecode) return;
      schedule_.passes.push_back(pass);
      schedule_.passes.back().lane = stream.lane;
    }
  }

  // One token of every sequence under way.
  void step() {
    const bool measured = decoded_ >= warmup_tokens_;
    std::array<std::vector<std::uint32_t>, 2> batches = batches_of_step(measured);
    decoded_ += active_.size();
    (measured ? schedule_.measured_tokens : schedule_.warmup_tokens) += active_.size();
    for (std::uint8_t batch = 0; batch < 2; ++batch) {
      if (batches[batch].empty()) continue;
      decode(batches[batch], batch, measured);
      schedule_.passes.back().ends_step = batch == 1 || batches[1].empty();
    }
  }

  // Places in active_, for each pass of the step.
  std::array<std::vector<std::uint32_t>, 2> batches_of_step(bool measured) {
    std::array<std::vector<std::uint32_t>, 2> batches;
    if (!schedule_.scheduler) {
      for (std::uint32_t i = 0; i < active_.size(); ++i) batches[0].push_back(i);
      return batches;
    }
    paths_.clear();
    for (const Stream& stream : active_) {
      append_(singles_.passes[stream.left.first].first, paths_);
    }
    TokenSplit split = active_.size() > size_ ? split_tokens(paths_, size_) : all_together();
    if (measured) count(split);
    batches = {std::move(split.first), std::move(split.second)};
    // The two are alike: whichever way moves fewer key-value caches.
    const std::size_t stays = moved(batches[0], 0) + moved(batches[1], 1);
    const std::size_t swapped = moved(batches[0], 1) + moved(batches[1], 0);
    if (swapped < stays && !batches[1].empty()) std::swap(batches[0], batches[1]);
    if (measured)
      schedule_.scheduler->moved_sequences += moved(batches[0], 0) + moved(batches[1], 1);
    return batches;
  }

  [[nodiscard]] TokenSplit all_together() const {
    TokenSplit split;
    for (std::uint32_t i = 0; i < active_.size(); ++i) split.first.push_back(i);
    split.objective_before = split.objective_after = paths_.distinct(split.first);
    return split;
  }

  void count(const TokenSplit& split) {
    SchedulerOutcome& outcome = *schedule_.scheduler;
    outcome.objective_before += split.objective_before;
    outcome.objective_after += split.objective_after;
    ++outcome.steps;
    const bool neighbours = split.first.back() + 1 == split.first.size();
    outcome.changed_steps += neighbours ? 0 : 1;
  }

  // How many of these would come from the other batch.
  [[nodiscard]] std::size_t moved(const std::vector<std::uint32_t>& places,
                                  std::uint8_t batch) const {
    return static_cast<std::size_t>(
        std::count_if(places.begin(), places.end(),
                      [&](std::uint32_t place) { return active_[place].batch == 1 - batch; }));
  }

  // One pass over the next tokens of these sequences.
  void decode(const std::vector<std::uint32_t>& places, std::uint8_t batch, bool measured) {
    std::vector<PassToken>& tokens = schedule_.batch_tokens;
    const std::size_t first = tokens.size();
    Pass pass;
    for (const std::uint32_t place : places) {
      Stream& stream = active_[place];
      const Pass& single = singles_.passes[stream.left.first++];
      tokens.push_back({single.first, single.sequence, single.position, stream.lane,
                        single.starts_sequence, stream.batch == 1 - batch});
      stream.batch = batch;
      pass.starts_sequence |= single.starts_sequence;
    }
    pass.first = tokens[first].row;
    pass.count = static_cast<std::uint32_t>(places.size());
    pass.sequence = tokens[first].sequence;
    pass.position = tokens[first].position;
    pass.lane = tokens[first].lane;
    pass.measured = measured;
    pass.tokens = std::span(tokens).subspan(first);
    schedule_.passes.push_back(pass);
  }

  const TokenSchedule& singles_;
  std::size_t size_;
  std::size_t lanes_;
  std::size_t warmup_tokens_;
  const AppendPath& append_;
  std::vector<Stretch> sequences_;
  std::size_t next_sequence_ = 0;
  std::vector<bool> lane_taken_;
  std::vector<Stream> active_;  // by first row
  std::size_t decoded_ = 0;
  ExpertPaths paths_;  // of active_
  TokenSchedule schedule_;
};

}  // namespace

std::size_t decoding_sequences(const TokenSchedule& singles) {
  std::size_t count = 0;
  for (const Stretch& sequence : sequences_of(singles)) {
    const auto first = singles.passes.begin() + static_cast<std::ptrdiff_t>(sequence.first);
    const auto end = singles.passes.begin() + static_cast<std::ptrdiff_t>(sequence.end);
    count +=
        std::any_of(first, end, [](const Pass& p) { return p.phase == Phase::kDecode; }) ? 1 : 0;
  }
  return count;
}

TokenSchedule batch_schedule(const TokenSchedule& singles, const BatchOptions& batch,
                             std::size_t warmup_tokens, std::size_t bits,
                             const AppendPath& append) {
  if (batch.size < 2) throw InvariantError("a batch has at least two sequences");
  return LockStep(singles, batch, warmup_tokens, bits, append).build();
}

}  // namespace moesim
