#include "support/cache_replay.h"

#include <algorithm>

#include "core/rng.h"

namespace moesim::test {

LayerId layer_id(std::size_t layer) {
  return static_cast<LayerId>(static_cast<std::uint16_t>(layer));
}

ExpertId expert_id(std::size_t expert) {
  return static_cast<ExpertId>(static_cast<std::uint16_t>(expert));
}

std::vector<ExpertId> expert_ids(const std::vector<int>& experts) {
  std::vector<ExpertId> ids;
  for (const int expert : experts) ids.push_back(expert_id(static_cast<std::size_t>(expert)));
  return ids;
}

std::vector<int> numbers(std::span<const ExpertKey> keys, std::size_t experts) {
  std::vector<int> result;
  for (const ExpertKey key : keys) result.push_back(static_cast<int>(index(key) % experts));
  return result;
}

std::unique_ptr<EvictionPolicy> make_eviction(const Json& policy, const EvictionContext& context) {
  return Registry<EvictionPolicy>::instance().make(Section(policy, "test", "/cache/eviction"),
                                                   context);
}

ExpertCache make_cache(CacheOptions options, const Json& policy, const FutureAccesses* future) {
  const RoutingShape& shape = options.shape;
  auto& sizes = options.expert_size;
  if (sizes.empty()) sizes.assign(shape.layers * shape.experts, 1);
  EvictionContext context;
  context.shape = shape;
  context.partitions = options.scope == CacheScope::kGlobal ? 1 : shape.layers;
  context.equal_sizes = std::count(sizes.begin(), sizes.end(), sizes.front()) ==
                        static_cast<std::ptrdiff_t>(sizes.size());
  context.future = future;
  context.capacity = options.capacity;
  const std::vector<std::uint64_t> kept = sizes;  // options are moved from below
  context.expert_size = kept;
  context.slots = options.capacity;
  return {std::move(options), make_eviction(policy, context)};
}

std::vector<RecordedVisit> random_visits(const RoutingShape& shape, std::size_t most_per_visit,
                                         std::uint64_t seed, bool unions) {
  Rng rng(seed);
  std::vector<RecordedVisit> visits;
  for (std::size_t layer = 0; unions && layer < shape.layers; ++layer) {
    visits.push_back({0, layer_id(layer), {}, true});
    for (std::size_t e = 0; e < shape.experts; ++e) {
      if (rng.below(2) == 0) visits.back().experts.push_back(expert_id(e));
    }
  }
  for (std::size_t token = 1; token <= shape.tokens; ++token) {
    for (std::size_t layer = 0; layer < shape.layers; ++layer) {
      visits.push_back({static_cast<std::uint32_t>(token), layer_id(layer), {}, false});
      auto& chosen = visits.back().experts;
      const std::size_t count = 1 + rng.below(most_per_visit);
      while (chosen.size() < count) {
        const std::size_t near = token / 10 + rng.below(4);
        const auto expert =
            expert_id((rng.below(3) == 0 ? rng.below(shape.experts) : near) % shape.experts);
        if (std::find(chosen.begin(), chosen.end(), expert) == chosen.end()) {
          chosen.push_back(expert);
        }
      }
    }
  }
  return visits;
}

FutureAccesses future_of(const std::vector<RecordedVisit>& visits, const RoutingShape& shape) {
  FutureAccesses future(shape.layers * shape.experts);
  std::vector<ExpertKey> keys;
  for (const RecordedVisit& visit : visits) {
    keys.clear();
    for (const ExpertId expert : visit.experts) {
      keys.push_back(expert_key(visit.layer, expert, shape.experts));
    }
    future.add_event(keys);
  }
  future.finish();
  return future;
}

EventOutcome replay_visit(ExpertCache& cache, const RecordedVisit& visit) {
  return visit.is_union ? cache.visit_union(visit.token, visit.layer, visit.experts)
                        : cache.visit(visit.token, visit.layer, visit.experts);
}

CacheCounts replay(ExpertCache& cache, const std::vector<RecordedVisit>& visits) {
  CacheAccounting accounting(cache.options().shape, cache.options().expert_size);
  for (const RecordedVisit& visit : visits) {
    accounting.count(visit.token, visit.layer, replay_visit(cache, visit));
  }
  return accounting.counts();
}

CacheCounts replay(const CacheOptions& options, const Json& policy,
                   const std::vector<RecordedVisit>& visits) {
  const FutureAccesses future = future_of(visits, options.shape);
  ExpertCache cache = make_cache(options, policy, &future);
  return replay(cache, visits);
}

std::vector<int> residents(const ExpertCache& cache, LayerId layer) {
  std::vector<int> result;
  const ResidencyView view = cache.view(layer);
  for (std::size_t expert = 0; expert < view.states().size(); ++expert) {
    if (view.resident(expert_id(expert))) result.push_back(static_cast<int>(expert));
  }
  return result;
}

std::vector<int> residents_by_score(const ExpertCache& cache, LayerId layer) {
  std::vector<int> result = residents(cache, layer);
  const ResidencyView view = cache.view(layer);
  const auto score = [&](int e) {
    return view.eviction_score(expert_id(static_cast<std::size_t>(e)));
  };
  std::stable_sort(result.begin(), result.end(), [&](int a, int b) { return score(a) > score(b); });
  return result;
}

}  // namespace moesim::test
