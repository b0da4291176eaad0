// S3-FIFO (Yang et al., SOSP 2023, algorithm 1): what enters goes to a small queue, and from there
// to the main queue where it has been used again often enough, else out and into a ghost queue of
// ids; what the ghosts remember enters the main queue at once. The main queue puts what was used
// back in, with one use less. Uses are counted up to 3.
//
// Queues are measured in the unit of the capacity, so that unequal sizes keep their meaning: the
// small queue's target is small_share of the capacity, the main queue and the ghosts have the rest.
// The cache asks for one victim at a time, so when the main queue overflows and evicts, the search
// ends there (algorithm 1 goes on to evict from the small queue too, room that nobody asked for).
#include <algorithm>
#include <cmath>

#include "cache/eviction/key_lists.h"

namespace moesim {
namespace {

constexpr std::uint8_t kMostUses = 3;  // two bits

const Parameter kSmallShare{"small_share", 0.1,      "the small queue's share of the capacity",
                            "number",      "(0, 1)", "Yang et al., SOSP 2023: 10 %"};
const Parameter kPromoteAt{
    "promote_at", 2,        "uses after loading from which an expert moves to the main queue",
    "integer",    "[1, 3]", "Yang et al., SOSP 2023, algorithm 1: more than one"};

double read_small_share(Section& config) {
  const double share = config.number(kSmallShare.name, kUnitInterval);
  if (share <= 0.0 || share >= 1.0) {
    throw config.error(kSmallShare.name, "expected a number > 0 and < 1, got " +
                                             config.json().at(kSmallShare.name).dump());
  }
  return share;
}

// Rounded to a millionth, because 0.1 of 70 must not be more than 7.
double share_of(std::uint64_t capacity, double share) {
  return std::nearbyint(share * static_cast<double>(capacity) * 1e6) / 1e6;
}

class S3Fifo final : public EvictionPolicy {
 public:
  S3Fifo(Section& config, const EvictionContext& context)
      : queues_(context, context.partitions * kQueues),
        uses_(context.shape.layers * context.shape.experts),
        small_target_(share_of(context.capacity, read_small_share(config))),
        main_target_(static_cast<double>(context.capacity) - small_target_),
        promote_at_(static_cast<std::uint8_t>(config.integer(kPromoteAt.name, 1, kMostUses))) {}

  void on_hit(ExpertKey key, const CacheEvent& /*event*/) override {
    Uses& uses = uses_[index(key)];
    // The first use after a speculative read is that of an insertion.
    if (uses.used) uses.count = std::min<std::uint8_t>(kMostUses, uses.count + 1U);
    uses.used = true;
  }
  void on_insert(ExpertKey key, const CacheEvent& event) override {
    const std::size_t first = event.partition() * kQueues;
    const bool remembered = queues_.list_of(key) == first + kGhosts;
    queues_.push(first + (remembered ? kMain : kSmall), key);
    uses_[index(key)] = {0, event.kind() != EventKind::kSpeculative};
  }
  void on_evict(ExpertKey key) override {
    const std::uint32_t list = queues_.list_of(key);
    if (list % kQueues == kMain) {
      queues_.erase(key);
      return;
    }
    const std::size_t ghosts = list - kSmall + kGhosts;
    queues_.push(ghosts, key);
    queues_.shrink(ghosts, static_cast<std::uint64_t>(main_target_));
  }
  std::optional<ExpertKey> victim(const CacheEvent& event, bool spare_members) override {
    return others_first(event, spare_members, [&](bool spare) { return evict(event, spare); });
  }
  // An estimate: small queue 1 to 2, main queue up to 1; within each the less the more uses.
  [[nodiscard]] double score(ExpertKey key) const override {
    const bool small = queues_.list_of(key) % kQueues == kSmall;
    return (small ? 1.0 : 0.0) + 1.0 / (1.0 + uses_[index(key)].count);
  }
  // The queues decide before another enters.
  [[nodiscard]] Insertion insertion() const override { return Insertion::kOneByOne; }
  void reset() override {
    for (std::size_t list = kGhosts; list < queues_.lists(); list += kQueues) queues_.clear(list);
  }

 private:
  enum Queue : std::size_t { kSmall, kMain, kGhosts, kQueues };
  struct Uses {
    std::uint8_t count = 0;
    bool used = false;  // false while only a speculative read has brought it
  };

  std::optional<ExpertKey> evict(const CacheEvent& event, bool spare) {
    const std::size_t first = event.partition() * kQueues;
    const bool small_first = static_cast<double>(queues_.size(first + kSmall)) >= small_target_;
    std::optional<ExpertKey> found =
        small_first ? evict_small(event, spare) : evict_main(event, spare);
    if (!found) found = small_first ? evict_main(event, spare) : evict_small(event, spare);
    return found;
  }

  std::optional<ExpertKey> evict_small(const CacheEvent& event, bool spare) {
    const std::size_t first = event.partition() * kQueues;
    while (const auto oldest = queues_.oldest(first + kSmall, event, spare)) {
      Uses& uses = uses_[index(*oldest)];
      if (uses.count < promote_at_) return oldest;
      uses.count = 0;  // cleared by the move
      queues_.push(first + kMain, *oldest);
      if (static_cast<double>(queues_.size(first + kMain)) > main_target_) {
        if (const auto found = evict_main(event, spare)) return found;
      }
    }
    return std::nullopt;
  }

  std::optional<ExpertKey> evict_main(const CacheEvent& event, bool spare) {
    const std::size_t main = event.partition() * kQueues + kMain;
    while (const auto oldest = queues_.oldest(main, event, spare)) {
      Uses& uses = uses_[index(*oldest)];
      if (uses.count == 0) return oldest;
      --uses.count;
      queues_.push(main, *oldest);
    }
    return std::nullopt;
  }

  KeyLists queues_;         // kQueues per partition
  std::vector<Uses> uses_;  // [layers * experts]
  double small_target_;
  double main_target_;
  std::uint8_t promote_at_;
};

MOESIM_REGISTER(EvictionPolicy, S3Fifo, "s3_fifo",
                About("a small queue filters what is used once, a main queue keeps what is used "
                      "again, ghosts remember what left",
                      "S3-FIFO, Yang et al., SOSP 2023, algorithm 1"),
                kSmallShare, kPromoteAt);

}  // namespace
}  // namespace moesim
