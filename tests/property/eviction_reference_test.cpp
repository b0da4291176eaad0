// Published policies against slow references written from the pseudo-code of their papers, access
// by access in one cache: the same hits in the same order.
#include <algorithm>
#include <string>
#include <vector>

#include "core/rng.h"
#include "support/cache_replay.h"
#include "support/eviction_references.h"
#include "support/testing.h"

namespace moesim::test {
namespace {

constexpr std::size_t kExperts = 24;

reference::Reference reference_of(const std::string& policy, std::size_t capacity) {
  if (policy == "fifo") return reference::fifo(capacity, false);
  if (policy == "lifo") return reference::fifo(capacity, true);
  if (policy == "lfu") return reference::lfu(capacity);
  if (policy == "lfru") return reference::lfru(capacity);
  if (policy == "sieve") return reference::Sieve(capacity);
  if (policy == "s3_fifo") return reference::S3Fifo(capacity);
  return reference::Arc(capacity);
}

// Three phases, each with favourites of its own, and scans in between.
std::vector<int> random_accesses(std::uint64_t seed) {
  Rng rng(seed);
  std::vector<int> accesses;
  for (int i = 0; i < 3000; ++i) {
    const std::size_t phase = static_cast<std::size_t>(i) / 1000 * 5;
    std::size_t expert = rng.below(kExperts);
    if (rng.below(3) > 0) expert = phase + std::min(rng.below(8), rng.below(8));
    if (i % 500 > 450) expert = static_cast<std::size_t>(i);
    accesses.push_back(static_cast<int>(expert % kExperts));
  }
  return accesses;
}

ExpertCache cache_of(const std::string& policy, std::size_t capacity, Accounting accounting,
                     std::uint64_t size) {
  CacheOptions options;
  options.shape = {1, 1, kExperts};
  options.capacity = capacity * size;
  options.accounting = accounting;
  options.expert_size.assign(kExperts, size);
  return make_cache(options, {{"policy", policy}});
}

}  // namespace

TEST_SUITE("eviction references") {
  TEST_CASE("hits come as in the papers' pseudo-code") {
    for (const char* policy : {"fifo", "lifo", "lfu", "lfru", "sieve", "s3_fifo", "arc"}) {
      CAPTURE(policy);
      for (const std::size_t capacity : {1, 2, 3, 5, 8, 10, 13, 20, 23}) {
        CAPTURE(capacity);
        for (const std::uint64_t seed : {1, 2, 3}) {
          const std::vector<int> accesses = random_accesses(seed);
          reference::Reference expected = reference_of(policy, capacity);
          ExpertCache at_once = cache_of(policy, capacity, Accounting::kEvent, 1);
          ExpertCache one_by_one = cache_of(policy, capacity, Accounting::kAccess, 7);
          std::uint32_t token = 0;
          for (const int expert : accesses) {
            CAPTURE(token);
            const bool hit = expected(expert);
            for (ExpertCache* cache : {&at_once, &one_by_one}) {
              const EventOutcome outcome = cache->visit(token, LayerId{}, expert_ids({expert}));
              REQUIRE((outcome.accesses[0].kind == AccessKind::kHit) == hit);
            }
            ++token;
          }
        }
      }
    }
  }

  TEST_CASE("accesses of a visit that are judged one by one follow them too") {
    // Not those that protect the experts of a visit.
    for (const char* policy : {"fifo", "lifo", "sieve", "s3_fifo", "arc"}) {
      CAPTURE(policy);
      for (const std::size_t capacity : {4, 7, 12}) {
        CAPTURE(capacity);
        Rng rng(capacity);
        reference::Reference expected = reference_of(policy, capacity);
        ExpertCache cache = cache_of(policy, capacity, Accounting::kAccess, 1);
        for (std::uint32_t token = 0; token < 800; ++token) {
          std::vector<int> experts;
          while (experts.size() < 4) {
            const auto expert = static_cast<int>(std::min(rng.below(kExperts), rng.below(16)));
            if (std::find(experts.begin(), experts.end(), expert) == experts.end()) {
              experts.push_back(expert);
            }
          }
          const EventOutcome outcome = cache.visit(token, LayerId{}, expert_ids(experts));
          for (std::size_t i = 0; i < experts.size(); ++i) {
            CAPTURE(token);
            REQUIRE((outcome.accesses[i].kind == AccessKind::kHit) == expected(experts[i]));
          }
        }
      }
    }
  }
}

}  // namespace moesim::test
