// The slot plan of ExpertFlow's predictive locality-aware expert caching with its real-time
// correction (arXiv 2410.17954, section "Expert Cache Engine"; routing_and_compression.md 2.3):
// which predicted experts have a slot in a cache that all layers share. Knows no cache and no
// clock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/ids.h"

namespace moesim {

// kGreedy: layers in execution order take what they are predicted to need until no slot is left.
// kProportional: slots in proportion to the predicted needs, by largest remainder, equal remainders
// to the earlier layer.
enum class PlecSplit : std::uint8_t { kGreedy, kProportional };

// [layers]: the slots of each layer, given its distinct predicted experts.
std::vector<std::size_t> plec_slots(std::span<const std::size_t> demands, std::size_t slots,
                                    PlecSplit split);

// The plan of one step (one pass through the layers), kept up to date while the step runs. Nothing
// allocates after construction. Slots go on from layer to layer; with `per_layer` each layer has as
// many of its own instead, and what gets free in one is of no use to another.
class PlecPlan {
 public:
  struct Correction {
    std::vector<ExpertKey> missed;    // routed, not predicted: to be read at high priority
    std::vector<ExpertKey> unwanted;  // predicted, not routed: the first victims
  };

  PlecPlan(const RoutingShape& shape, std::size_t slots, PlecSplit split, bool per_layer);

  // A step begins. `predicted`: [layers], distinct experts of each, most probable first.
  void begin_step(std::span<const std::vector<ExpertKey>> predicted);
  // [layers]: the slots that begin_step() gave to each.
  [[nodiscard]] std::span<const std::size_t> shares() const { return shares_; }
  [[nodiscard]] bool has_slot(ExpertKey key) const { return states_[index(key)] == State::kSlot; }
  // The experts that have a slot, by layer, then by probability: the order to read them in.
  void append_planned(std::vector<ExpertKey>& keys) const;
  // The expert has been computed: its slot goes to the next predicted one that has none, whose
  // layer is still to come. Returns that one; nullopt where the expert had no slot or none is left.
  std::optional<ExpertKey> compute_done(ExpertKey key);
  // The routing of a layer is known; layers before it are over. Missed experts take the slots of
  // unwanted ones, then those of the experts that come last; what is left goes to the next
  // predicted ones. Valid until the next call.
  const Correction& route_known(LayerId layer, std::span<const ExpertKey> routed);
  // Experts that got or lost a slot since the last call of clear_changed().
  [[nodiscard]] std::span<const ExpertKey> changed() const { return changed_; }
  void clear_changed() { changed_.clear(); }

 private:
  enum class State : std::uint8_t { kNone, kWaiting, kSlot };

  void set(ExpertKey key, State state);
  void share_out(std::span<const std::vector<ExpertKey>> predicted);
  void end_layers_before(std::size_t layer);
  std::optional<ExpertKey> refill();
  bool take_last_slot();

  RoutingShape shape_;
  std::size_t slots_;
  PlecSplit split_;
  bool per_layer_;
  std::vector<State> states_;         // [layers * experts]
  std::vector<std::size_t> demands_;  // [layers]
  std::vector<std::size_t> shares_;   // [layers]
  std::vector<ExpertKey> order_;      // all predicted ones, by layer, then by probability
  std::vector<ExpertKey> extra_;      // missed ones that have a slot
  std::size_t next_ = 0;              // of order_: nobody before it is waiting
  std::size_t known_layers_ = 0;      // layers whose routing is known
  Correction correction_;
  std::vector<ExpertKey> changed_;
};

}  // namespace moesim
