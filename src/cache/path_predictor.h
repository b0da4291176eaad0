// Which experts a coming layer visit will use, as judged from the visits so far or from a known
// future. Prefetchers read ahead by it, and the eviction policy `plec` plans its slots by it.
//
// A predictor says nothing about what it cannot know. None of them allocates after construction,
// where `named` has room for the experts of a visit.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cache/future_accesses.h"
#include "core/ids.h"

namespace moesim {

// The visit asked about: `ahead` visits after the last one, the cache's event number `event`.
struct ComingVisit {
  LayerId layer{};
  std::uint32_t event = 0;
  std::uint32_t ahead = 1;
};

class PathPredictor {
 public:
  virtual ~PathPredictor() = default;
  // A visit ran these experts, best first.
  virtual void observe(LayerId /*layer*/, std::span<const ExpertId> /*experts*/) {}
  virtual void begin_sequence() {}
  // Appends the experts of that visit, distinct, most probable first.
  virtual void predict(const ComingVisit& visit, std::vector<ExpertKey>& named) = 0;
  // True where it needs the future.
  [[nodiscard]] virtual bool looks_ahead() const { return false; }
};

// The experts of the same layer at the decode step before (TLP of ExpertFlow, arXiv 2410.17954;
// routing_and_compression.md 2.1), the best `count` of them. Nothing beyond one token.
class PreviousTokenPath final : public PathPredictor {
 public:
  PreviousTokenPath(const RoutingShape& shape, std::size_t count);
  void observe(LayerId layer, std::span<const ExpertId> experts) override;
  void begin_sequence() override;
  void predict(const ComingVisit& visit, std::vector<ExpertKey>& named) override;

 private:
  RoutingShape shape_;
  std::size_t count_;
  std::vector<ExpertId> last_;          // [layers, experts]
  std::vector<std::uint32_t> present_;  // [layers], how many of them there are
};

// The expert ids of the last visit, whatever its layer (SLP of ExpertFlow, the same section), the
// best `count` of them.
class PreviousLayerPath final : public PathPredictor {
 public:
  PreviousLayerPath(const RoutingShape& shape, std::size_t count);
  void observe(LayerId layer, std::span<const ExpertId> experts) override;
  void begin_sequence() override { last_.clear(); }
  void predict(const ComingVisit& visit, std::vector<ExpertKey>& named) override;

 private:
  RoutingShape shape_;
  std::size_t count_;
  std::vector<ExpertId> last_;
};

// The `count` experts of the layer with the most uses, equal ones by lower id; experts that were
// never used are not named (frequency, routing_and_compression.md 2.5).
class PopularityPath final : public PathPredictor {
 public:
  PopularityPath(const RoutingShape& shape, std::size_t count);
  void observe(LayerId layer, std::span<const ExpertId> experts) override;
  void predict(const ComingVisit& visit, std::vector<ExpertKey>& named) override;

 private:
  RoutingShape shape_;
  std::vector<std::uint64_t> uses_;  // [layers, experts]
  std::vector<ExpertId> best_;       // [count], scratch
};

// The truth. Throws InvariantError when it is asked and has no future.
class FuturePath final : public PathPredictor {
 public:
  explicit FuturePath(const FutureAccesses* future) : future_(future) {}
  void predict(const ComingVisit& visit, std::vector<ExpertKey>& named) override;
  [[nodiscard]] bool looks_ahead() const override { return true; }

 private:
  const FutureAccesses* future_;
};

struct PredictionNoise {
  double recall = 1;
  double precision = 1;
  std::uint64_t seed = 1;
};

// The truth with errors (routing_and_compression.md 2.5): each true expert is named with
// probability `recall`, and of the other experts of the layer as many as make `precision` of the
// named ones true, drawn without replacement. The order is random too, because a real predictor
// does not know which of its guesses are false. What is named for a visit depends on nothing but
// the seed and the number of the event, so that it is the same however often it is asked.
class NoisyFuturePath final : public PathPredictor {
 public:
  NoisyFuturePath(const RoutingShape& shape, const FutureAccesses* future,
                  const PredictionNoise& noise);
  void predict(const ComingVisit& visit, std::vector<ExpertKey>& named) override;
  [[nodiscard]] bool looks_ahead() const override { return true; }

 private:
  RoutingShape shape_;
  const FutureAccesses* future_;
  PredictionNoise noise_;
  std::vector<ExpertKey> others_;  // scratch
};

}  // namespace moesim
