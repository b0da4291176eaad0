// Decides, layer visit by layer visit, which experts run and what the cache does about them. It
// knows no clock: a simulated decode loop and a real one drive the same object.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "cache/cache_accounting.h"
#include "cache/expert_cache.h"
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

  PrefetchCounts operator-(const PrefetchCounts& earlier) const {
    return {issued - earlier.issued, issued_bytes - earlier.issued_bytes, useful - earlier.useful,
            late - earlier.late, wasted_bytes - earlier.wasted_bytes};
  }
  PrefetchCounts& operator+=(const PrefetchCounts& more) {
    issued += more.issued;
    issued_bytes += more.issued_bytes;
    useful += more.useful;
    late += more.late;
    wasted_bytes += more.wasted_bytes;
    return *this;
  }
};

enum class CacheReset : std::uint8_t { kNever, kSequence };

// One layer visit, decided. References and spans are valid until the next visit.
struct VisitOutcome {
  bool visited = false;              // false: the trace has no experts here (absent cell)
  std::span<const Access> accesses;  // by weight, best first; a union pass: in touch order
  std::span<const ExpertKey> evicted;
  std::uint32_t event = 0;              // number of the cache event
  Gate* gate = nullptr;                 // set to this visit; null after a union pass
  const Selection* executed = nullptr;  // in the policy's own order; null after a union pass
};

struct SessionParts {
  const Trace* trace = nullptr;
  GateSpec gate;
  std::size_t k = 0;
  std::unique_ptr<RoutingPolicy> routing;
  std::unique_ptr<ExpertCache> cache;
  std::vector<std::uint64_t> expert_bytes;  // [layers * experts]
  CacheReset reset = CacheReset::kNever;
};

class ExpertSession {
 public:
  explicit ExpertSession(SessionParts parts);

  // Call before the first layer of every pass.
  void begin_pass(const Pass& pass);
  // REQUIRES: pass.phase == kDecode. Layers in order. Does not allocate in steady state.
  VisitOutcome decode(const Pass& pass, LayerId layer);
  // The same for logits that the caller has just computed ([experts], and the static selection bias
  // or nothing): what a real decode loop calls. They must stay valid until the next visit.
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
  // After prefill(): how many tokens of the pass each expert of `accesses` serves.
  [[nodiscard]] std::span<const std::uint32_t> union_counts() const { return union_counts_; }

  // A speculative read begins: the cache makes room for it. False, with nothing changed, where the
  // expert is there or under way, or where no room can be made.
  bool begin_read(ExpertKey key);
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
  // Decoded tokens begun so far: the number that lifetimes are measured in.
  [[nodiscard]] std::uint32_t decoded_tokens() const { return decoded_tokens_; }

 private:
  // Sets the gate to a cell of the trace; false where the token does not visit the layer.
  bool set_gate(std::size_t token, LayerId layer);
  VisitOutcome route(const Pass& pass, LayerId layer);
  VisitOutcome visit_cache(LayerId layer);
  // False where neither logits nor a ranked recording say which expert of a visit is best.
  [[nodiscard]] bool knows_order() const { return gate_.has_logits() || parts_.trace->ranked(); }
  void order_by_weight(const Selection& chosen);
  void judge_speculation(LayerId layer, const EventOutcome& outcome);
  void count_waste(std::span<const ExpertKey> evicted);
  void waste_all();

  SessionParts parts_;
  CacheAccounting accounting_;
  Gate gate_;
  std::vector<float> logits_;   // [experts]
  std::vector<ExpertId> ids_;   // [recorded k]
  std::vector<float> weights_;  // [recorded k]
  PrefetchCounts prefetched_;
  std::vector<std::uint8_t> speculative_;  // [layers * experts], read ahead and not yet demanded
  Selection chosen_;
  std::vector<ExpertId> by_weight_;
  std::vector<std::uint32_t> order_;
  std::vector<std::uint32_t> last_touch_;    // [experts], scratch of a union pass
  std::vector<std::uint32_t> touch_counts_;  // [experts], scratch of a union pass
  std::vector<std::uint32_t> union_counts_;
  std::uint32_t decoded_tokens_ = 0;
};

}  // namespace moesim
