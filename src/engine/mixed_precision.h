// What a miss reads where it need not read the whole expert: a copy of lower precision, a slice of
// its bits, or nothing (weights.on_miss).
//
// The cache then holds two items per expert, each with its own size, read and evicted on its own.
// kHobbit (HOBBIT, arXiv 2411.01433): item e is the full-precision copy, item experts + e the low
// one. kSlices (SliceMoE, arXiv 2512.12990): item e is the high-order slice, which alone gives low
// precision; item experts + e the low-order slice, without which there is no full precision.
//
// Left out: HOBBIT's own eviction score and prefetch, SliceMoE's control of the miss rate (not
// published in enough detail). The classes of HOBBIT stand for it.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "cache/expert_cache.h"
#include "core/ids.h"

namespace moesim {

// The items of the cache that an expert which runs takes.
struct CacheItems {
  std::array<ExpertKey, 2> keys{};
  std::size_t count = 0;
};

enum class MissPolicy : std::uint8_t { kFull, kHobbit, kSlices };

// s of an expert: the share of the visit's gate weight that ranks above it.
struct MissOptions {
  MissPolicy policy = MissPolicy::kFull;
  double low_bits = 4;      // per weight of the low precision, scales included
  double full_until = 0.6;  // s up to which a miss is served at full precision
  double low_until = 0.9;   // s up to which it is served at low precision; beyond it is skipped
};

// What an expert that runs moves.
struct ExpertRun {
  std::array<std::uint64_t, 2> read_bytes{};  // of each item that is missing; 0: nothing
  std::uint64_t run_bytes = 0;                // weights that the product reads
  bool low = false;                           // at low precision
};

class MixedPrecision {
 public:
  // `expert_bytes`, `low_bytes`: [layers * experts], the latter smaller throughout.
  MixedPrecision(const MissOptions& options, const RoutingShape& shape,
                 std::vector<std::uint64_t> expert_bytes, std::vector<std::uint64_t> low_bytes);

  // [layers * 2 experts]: what each item of the cache takes.
  [[nodiscard]] const std::vector<std::uint64_t>& item_bytes() const { return item_bytes_; }

  // Of an expert, by its key among experts, that runs at low or at full precision.
  [[nodiscard]] CacheItems items_of(ExpertKey key, bool low) const;

  // Decides about the experts of a visit, best first with their weights, against the cache as it
  // is. An expert that is there at full precision runs at full precision, whatever its s.
  void decide(const ExpertCache& cache, LayerId layer, std::span<const ExpertId> best_first,
              std::span<const double> weights);
  // All of them at full precision: a prefill.
  void demand_full(std::span<const ExpertId> experts);

  // What to visit the cache with.
  [[nodiscard]] std::span<const ExpertId> items() const { return items_; }
  // Which experts run, in the order given, and how many of those given do not.
  [[nodiscard]] std::span<const ExpertId> experts() const { return experts_; }
  [[nodiscard]] std::uint32_t skipped() const { return skipped_; }
  [[nodiscard]] std::uint32_t low() const { return low_; }

  // After the visit: the accesses of the experts instead of their items (a hit where all items
  // hit), and what each moves. Valid until the next decision.
  void settle(LayerId layer, const EventOutcome& outcome);
  [[nodiscard]] std::span<const Access> accesses() const { return accesses_; }
  [[nodiscard]] std::span<const ExpertRun> runs() const { return runs_; }

 private:
  void clear();
  void add(ExpertId expert, bool low);
  [[nodiscard]] bool full_resident(const ExpertCache& cache, LayerId layer, ExpertId expert) const;

  MissOptions options_;
  RoutingShape shape_;
  std::vector<std::uint64_t> expert_bytes_;
  std::vector<std::uint64_t> low_bytes_;
  std::vector<std::uint64_t> item_bytes_;
  std::vector<std::uint8_t> seen_;   // [layers * experts], accessed before
  std::vector<ExpertId> items_;      // of the visit
  std::vector<ExpertId> experts_;    // [experts that run]
  std::vector<std::uint8_t> parts_;  // [experts that run], items of each
  std::vector<Access> accesses_;
  std::vector<ExpertRun> runs_;
  std::uint32_t skipped_ = 0;
  std::uint32_t low_ = 0;
};

}  // namespace moesim
