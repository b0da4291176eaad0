#include "engine/lru_curve.h"

#include <algorithm>
#include <limits>

namespace moesim {
namespace {

constexpr std::size_t kNowhere = std::numeric_limits<std::size_t>::max();

// An expert of the event at hand.
struct Member {
  std::size_t key = 0;
  std::size_t depth = kNowhere;  // before the event, from 0
};

class Curve {
 public:
  Curve(const CacheOptions& options, std::span<const std::uint64_t> capacities,
        std::span<const std::uint64_t> expert_bytes)
      : options_(options),
        bytes_(expert_bytes),
        keys_(options.expert_size.size()),
        stacks_(options.scope == CacheScope::kGlobal ? 1 : options.shape.layers),
        is_member_(keys_, 0),
        place_(keys_, 0),
        was_used_(keys_, 0),
        caches_(capacities.size()) {
    const std::size_t of_each = keys_ / stacks_.size();
    for (std::size_t i = 0; i < capacities.size(); ++i) {
      caches_[i].loaded_at.assign(keys_, 0);
      caches_[i].held.assign(stacks_.size(), 0);
      caches_[i].slots.reserve(stacks_.size());
      for (std::size_t p = 0; p < stacks_.size(); ++p) {
        caches_[i].slots.push_back(capacities[i] / options.expert_size[p * of_each]);
      }
    }
    members_.reserve(options.shape.experts);
  }

  void reset() {
    for (std::vector<std::size_t>& stack : stacks_) stack.clear();
    for (Cache& cache : caches_) std::fill(cache.held.begin(), cache.held.end(), 0U);
  }

  void add(const LoggedEvent& event, std::span<const ExpertKey> keys) {
    const bool one_by_one = options_.accounting == Accounting::kAccess && !event.is_union;
    if (!one_by_one) {
      const bool backwards = options_.touch_order == TouchOrder::kAscending && !event.is_union;
      use(event, keys, backwards, true);
      return;
    }
    for (std::size_t i = 0; i < keys.size(); ++i) use(event, keys.subspan(i, 1), false, false);
  }

  [[nodiscard]] std::vector<ReplayCounts> counts() const {
    std::vector<ReplayCounts> counts;
    counts.reserve(caches_.size());
    for (const Cache& cache : caches_) counts.push_back(cache.counts);
    return counts;
  }

 private:
  // One of the capacities.
  struct Cache {
    std::vector<std::size_t> slots;        // [partitions]
    std::vector<std::size_t> held;         // [partitions], how much of the stack's top is resident
    std::vector<std::uint32_t> loaded_at;  // [keys], token of the last load
    ReplayCounts counts;
  };

  // `at_once`: what the event brings in and drops was never loaded.
  void use(const LoggedEvent& event, std::span<const ExpertKey> keys, bool backwards,
           bool at_once) {
    const std::size_t partition = options_.scope == CacheScope::kGlobal ? 0 : index(event.layer);
    members_.clear();
    for (std::size_t i = 0; i < keys.size(); ++i) {
      const ExpertKey key = keys[backwards ? keys.size() - 1 - i : i];
      place_[index(key)] = members_.size();
      is_member_[index(key)] = 1;
      members_.push_back({index(key), kNowhere});
    }
    raise(stacks_[partition]);
    for (Cache& cache : caches_) {
      const CacheCounts more = apply(cache, partition, event.token, at_once);
      if (event.measured) cache.counts.measured += more;
      if (event.is_prefill) cache.counts.prefill += more;
    }
    for (const Member& member : members_) {
      is_member_[member.key] = 0;
      was_used_[member.key] = 1;
    }
  }

  // Finds the members' depths and puts them on top, the last touched first.
  void raise(std::vector<std::size_t>& stack) {
    std::size_t missing = 0;
    for (const Member& member : members_) missing += was_used_[member.key] == 0 ? 1 : 0;
    std::size_t found = 0;
    std::size_t end = 0;
    for (; end < stack.size() && found + missing < members_.size(); ++end) {
      const std::size_t key = stack[end];
      if (is_member_[key] == 0) continue;
      members_[place_[key]].depth = end;
      ++found;
    }
    const std::size_t entering = members_.size() - found;
    stack.insert(stack.begin() + static_cast<std::ptrdiff_t>(end), entering, 0);
    std::size_t to = end + entering;
    for (std::size_t from = end; from-- > 0;) {
      if (is_member_[stack[from]] == 0) stack[--to] = stack[from];
    }
    for (const Member& member : members_) stack[--to] = member.key;
  }

  // What the event does to one cache.
  CacheCounts apply(Cache& cache, std::size_t partition, std::uint32_t token, bool at_once) {
    const std::vector<std::size_t>& stack = stacks_[partition];
    std::size_t& held = cache.held[partition];
    CacheCounts counts;
    counts.accesses = members_.size();
    for (const Member& member : members_) {
      if (member.depth < held) continue;
      ++counts.misses;
      counts.cold_misses += was_used_[member.key] == 0 ? 1 : 0;
      counts.demand_bytes += bytes_[member.key];
    }
    counts.hits = counts.accesses - counts.misses;
    counts.loads = counts.misses;
    const std::size_t all = held + counts.misses;
    std::size_t most = cache.slots[partition];
    if (options_.overflow == Overflow::kKeepEvent) most = std::max(most, members_.size());
    const std::size_t stay = std::min(all, most);
    if (!at_once) load(cache, held, token);
    for (std::size_t place = stay; place < all; ++place) {
      const std::size_t key = stack[place];
      if (at_once && is_member_[key] != 0 && members_[place_[key]].depth >= held) {
        --counts.loads;
        continue;
      }
      ++counts.evictions;
      counts.lifetime_tokens += token - cache.loaded_at[key];
    }
    if (at_once) load(cache, held, token);
    held = stay;
    return counts;
  }

  void load(Cache& cache, std::size_t held, std::uint32_t token) const {
    for (const Member& member : members_) {
      if (member.depth >= held) cache.loaded_at[member.key] = token;
    }
  }

  const CacheOptions& options_;
  std::span<const std::uint64_t> bytes_;  // [keys]
  std::size_t keys_;
  std::vector<std::vector<std::size_t>> stacks_;  // [partitions], keys, the most recent first
  std::vector<std::uint8_t> is_member_;           // [keys], of the event at hand
  std::vector<std::size_t> place_;                // [keys], of members, in members_
  std::vector<std::uint8_t> was_used_;            // [keys], before the event at hand
  std::vector<Member> members_;                   // in touch order
  std::vector<Cache> caches_;                     // [capacities]
};

}  // namespace

bool lru_is_stack(const CacheOptions& options) {
  if (options.cold_start != ColdStart::kStrict || !options.initial.empty()) return false;
  if (options.accounting == Accounting::kAccess && options.overflow == Overflow::kKeepEvent) {
    return false;
  }
  const auto& sizes = options.expert_size;
  const std::size_t of_each =
      options.scope == CacheScope::kGlobal ? sizes.size() : options.shape.experts;
  for (std::size_t key = 0; key < sizes.size(); ++key) {
    if (sizes[key] != sizes[key / of_each * of_each]) return false;
  }
  return true;
}

std::vector<ReplayCounts> lru_curve(const AccessLog& log, const CacheOptions& options,
                                    std::span<const std::uint64_t> capacities,
                                    std::span<const std::uint64_t> expert_bytes) {
  Curve curve(options, capacities, expert_bytes);
  for (std::size_t number = 0; number < log.events(); ++number) {
    const LoggedEvent& event = log.event(number);
    if (event.resets_before) curve.reset();
    curve.add(event, log.accesses().event(number));
  }
  return curve.counts();
}

}  // namespace moesim
