// Decides, layer visit by layer visit, which experts run and what the cache does about them. It
// knows no clock: a simulated decode loop and a real one drive the same object.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "cache/cache_accounting.h"
#include "cache/expert_cache.h"
#include "engine/cell_reader.h"
#include "engine/mixed_precision.h"
#include "engine/token_schedule.h"
#include "routing/gate.h"
#include "routing/routing_policy.h"
#include "trace/trace.h"

namespace moesim {

// What speculation came to. An issued read is useful when its expert is demanded after it arrived,
// late when before; it is wasted when the expert leaves without having been demanded.
struct PrefetchCounts {
  std::uint64_t issued = 0;
  std::uint64_t issued_bytes = 0;
  std::uint64_t useful = 0;
  std::uint64_t late = 0;
  std::uint64_t wasted_bytes = 0;
  std::uint64_t useful_bytes = 0;
  std::uint64_t late_bytes = 0;

  PrefetchCounts operator-(const PrefetchCounts& earlier) const {
    return {issued - earlier.issued,
            issued_bytes - earlier.issued_bytes,
            useful - earlier.useful,
            late - earlier.late,
            wasted_bytes - earlier.wasted_bytes,
            useful_bytes - earlier.useful_bytes,
            late_bytes - earlier.late_bytes};
  }
  PrefetchCounts& operator+=(const PrefetchCounts& more) {
    issued += more.issued;
    issued_bytes += more.issued_bytes;
    useful += more.useful;
    late += more.late;
    wasted_bytes += more.wasted_bytes;
    useful_bytes += more.useful_bytes;
    late_bytes += more.late_bytes;
    return *this;
  }
};

enum class CacheReset : std::uint8_t { kNever, kSequence };

// One token of a pass that decodes several sequences, at one layer. An access of the pass counts
// with the first of its tokens that uses the expert.
struct RoutedToken {
  std::size_t place = 0;  // in Pass::tokens
  Gate* gate = nullptr;   // set to this token
  const Selection* executed = nullptr;
  std::uint32_t hits = 0;
  std::uint32_t misses = 0;
  std::uint64_t demand_bytes = 0;
  std::optional<double> bias_divergence;  // RoutingPolicy::bias_divergence of this token
};

// One layer visit, decided. References and spans are valid until the next visit.
struct VisitOutcome {
  bool visited = false;              // false: the trace has no experts here (absent cell)
  std::span<const Access> accesses;  // by weight, best first; a union: in touch order
  std::span<const ExpertKey> evicted;
  std::uint32_t event = 0;                // number of the cache event
  Gate* gate = nullptr;                   // set to this visit; null after a union
  const Selection* executed = nullptr;    // in the policy's own order; null after a union
  bool is_union = false;                  // one event, whatever the accounting (visit_union)
  bool is_repeat = false;                 // the block runs once more, with the same experts
  std::span<const std::uint32_t> served;  // tokens that each access serves; empty: one
  std::span<const RoutedToken> tokens;    // of a pass over several sequences, those that visit
  std::optional<double> bias_divergence;  // RoutingPolicy::bias_divergence of this visit
  // Only with weights.on_miss: what each of `accesses` moves, how many of them run at low
  // precision, and how many selected experts do not run at all.
  std::span<const ExpertRun> runs;
  std::uint32_t low_precision = 0;
  std::uint32_t skipped = 0;
  // What a predictor had named for this visit, distinct; only where one runs.
  std::span<const ExpertKey> predicted;
};

struct SessionParts {
  const Trace* trace = nullptr;
  GateSpec gate;
  std::size_t k = 0;
  std::unique_ptr<RoutingPolicy> routing;
  std::unique_ptr<ExpertCache> cache;
  std::vector<std::uint64_t> expert_bytes;  // [layers * experts]
  CacheReset reset = CacheReset::kNever;
  // Where several sequences decode in lock-step: the tokens that one pass decodes at most, and the
  // sequences that are under way at most (0: no batches).
  std::size_t tokens_in_pass = 1;
  std::size_t lanes = 0;
  // With another policy than kFull the cache holds the items of MixedPrecision.
  MissOptions on_miss;
  std::vector<std::uint64_t> low_bytes;  // [layers * experts], of the low precision
};

class ExpertSession {
 public:
  explicit ExpertSession(SessionParts parts);

  // Call before the first layer of every pass.
  void begin_pass(const Pass& pass);
  // REQUIRES: pass.phase == kDecode. Layers in order. Does not allocate in steady state. A pass
  // over several sequences: every token is routed against the residency before the visit; then
  // their distinct experts are one event, in touch order: token after token, each token's experts
  // as cache.touch_order says, an expert's last touch deciding. With Accounting::kAccess they are
  // taken one by one in that order, each token's best expert first.
  VisitOutcome decode(const Pass& pass, LayerId layer);
  // The same for logits that the caller has just computed ([experts], and the static selection bias
  // or nothing): what a real decode loop calls. They must stay valid until the next visit.
  // For one sequence.
  VisitOutcome decode(const Pass& pass, LayerId layer, std::span<const float> logits,
                      std::span<const float> selection_bias);
  // How often the block of the layer runs in this pass; where 0, nobody calls decode().
  [[nodiscard]] std::uint32_t executions(const Pass& pass, LayerId layer) const {
    return pass.phase == Phase::kPrefill ? 1 : parts_.routing->executions(pass.sequence, layer);
  }
  // The block of the layer that decode() was called for last runs once more, with the same experts:
  // an event of its own in the cache, in which what the first one kept is a hit.
  VisitOutcome repeat(LayerId layer);
  // REQUIRES: pass.phase == kPrefill. Plain top-k of every token, one union event.
  VisitOutcome prefill(const Pass& pass, LayerId layer);

  // A speculative read begins: the cache makes room for it. False, with nothing changed, where the
  // expert is there or under way, or where no room can be made.
  bool begin_read(ExpertKey key);
  // The last visit has computed this expert; see ExpertCache::compute_done.
  bool compute_done(ExpertKey key) { return parts_.cache->compute_done(key); }
  // It has arrived.
  void finish_read(ExpertKey key) { parts_.cache->finish_read(key); }

  [[nodiscard]] const ExpertCache& cache() const { return *parts_.cache; }
  [[nodiscard]] const PrefetchCounts& prefetched() const { return prefetched_; }
  [[nodiscard]] const CacheAccounting& accounting() const { return accounting_; }
  [[nodiscard]] const RoutingPolicy& routing() const { return *parts_.routing; }
  [[nodiscard]] RoutingShape shape() const { return parts_.trace->shape(); }
  [[nodiscard]] std::uint64_t expert_bytes(ExpertKey key) const {
    return parts_.expert_bytes[index(key)];
  }
  // What the cache holds an expert as: itself, or items of its own with weights.on_miss. `low`:
  // that it runs at low precision.
  [[nodiscard]] CacheItems items_of(ExpertKey key, bool low) const {
    return mixed_ ? mixed_->items_of(key, low) : CacheItems{{key}, 1};
  }
  // [items of the cache].
  [[nodiscard]] std::span<const std::uint64_t> item_bytes() const {
    return mixed_ ? mixed_->item_bytes() : parts_.expert_bytes;
  }
  // What the last begin_read() evicted; valid until the next call that changes the cache.
  [[nodiscard]] std::span<const ExpertKey> evicted_for_read() const { return evicted_for_read_; }
  // True where an expert may be read in two parts that lie apart in flash.
  [[nodiscard]] bool reads_in_parts() const { return mixed_.has_value(); }
  // Decode passes begun so far, which is decoded tokens where there are no batches: the number that
  // lifetimes are measured in.
  [[nodiscard]] std::uint32_t decoded_tokens() const { return decoded_tokens_; }
  // The most distinct experts of one decode pass at one layer.
  [[nodiscard]] std::size_t max_visit_experts() const;

 private:
  // What a sequence under way needs for itself.
  struct Lane {
    CellReader reader;
    Gate gate;
    Selection chosen;
  };

  VisitOutcome decode_batch(const Pass& pass, LayerId layer);
  void begin_union();
  void touch(ExpertId expert, std::size_t user);
  // by_weight_ and union_counts_ become the experts touched, in touch order.
  void end_union();
  void share_out(const EventOutcome& outcome, LayerId layer);
  void check_selection(const Selection& chosen) const;
  VisitOutcome route(const Pass& pass, LayerId layer);
  [[nodiscard]] ResidencyView view_of(LayerId layer) const;
  // The cache's answer to by_weight_; to chosen_ where misses are served as weights.on_miss says.
  VisitOutcome visit_cache(LayerId layer);
  VisitOutcome visit_mixed(LayerId layer);
  VisitOutcome settle_mixed(LayerId layer, const EventOutcome& outcome);
  // False where neither logits nor a ranked recording say which expert of a visit is best.
  [[nodiscard]] bool knows_order(const Gate& gate) const {
    return gate.has_logits() || parts_.trace->ranked();
  }
  void order_by_weight(const Gate& gate, const Selection& chosen);
  void judge_speculation(LayerId layer, const EventOutcome& outcome);
  void count_waste(std::span<const ExpertKey> evicted);
  void waste_all();

  SessionParts parts_;
  std::optional<MixedPrecision> mixed_;
  CacheAccounting accounting_;
  Gate gate_;
  CellReader reader_;
  PrefetchCounts prefetched_;
  std::span<const ExpertKey> evicted_for_read_;
  std::vector<std::uint8_t> speculative_;  // [layers * experts], read ahead and not yet demanded
  Selection chosen_;
  std::vector<ExpertId> by_weight_;
  std::vector<std::uint32_t> order_;
  std::vector<double> ordered_weights_;  // of by_weight_, for mixed_
  // Of a union.
  std::uint32_t touches_ = 0;
  std::vector<std::uint32_t> last_touch_;    // [experts]
  std::vector<std::uint32_t> touch_counts_;  // [experts]
  std::vector<std::size_t> first_user_;      // [experts]
  std::vector<std::uint32_t> union_counts_;
  // Of a pass over several sequences.
  std::vector<Lane> lanes_;
  std::vector<RoutedToken> routed_;
  std::uint32_t decoded_tokens_ = 0;
};

}  // namespace moesim
