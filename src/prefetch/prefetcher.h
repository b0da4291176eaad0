// Predicts experts that coming layer visits will need, so that they can be read ahead of demand.
// A predictor names experts; what a prediction costs is charged by whoever drives it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "cache/residency_view.h"
#include "config/registry.h"
#include "core/ids.h"

namespace moesim {

class FutureAccesses;
class Trace;

struct PrefetchContext {
  RoutingShape shape;
  std::size_t k = 0;
  const Trace* trace = nullptr;            // for training on a part of it and for look-ahead logits
  const FutureAccesses* future = nullptr;  // set where the run has one (see looks_ahead)
  std::uint64_t seed = 1;
};

// The moment of a prediction: the experts of `layer` have just become known for `token`.
struct PrefetchQuery {
  std::uint32_t token = 0;
  std::uint32_t event = 0;  // number of the cache event that this visit was
  LayerId layer{};
  std::span<const ExpertId> executed;  // the experts of this visit
  // Where several sequences decode in one pass: the rows of all its tokens, of which `token` is the
  // first and whose distinct experts `executed` holds. Empty: `token` alone.
  std::span<const std::uint32_t> rows = {};
};

class Prefetcher {
 public:
  using Context = PrefetchContext;
  virtual ~Prefetcher() = default;

  // Appends experts worth reading now, most urgent first; residents may be named, the caller skips
  // them. Must not allocate in steady state.
  virtual void predict(const PrefetchQuery& query, std::vector<ExpertKey>& wanted) = 0;

  // Weight bytes that one prediction reads on the compute cores (a predictor's own matrices).
  [[nodiscard]] virtual std::uint64_t predictor_bytes() const { return 0; }
  // Speculative bytes that may be outstanding at once.
  [[nodiscard]] virtual std::uint64_t max_outstanding_bytes() const { return 0; }
  // True when the predictor needs the future (PrefetchContext::future must be set).
  [[nodiscard]] virtual bool looks_ahead() const { return false; }
  // False for `none`: the run then skips prediction altogether.
  [[nodiscard]] virtual bool active() const { return true; }
};

}  // namespace moesim
