#include "cache/cache_accounting.h"

#include "support/cache_replay.h"
#include "support/testing.h"

namespace moesim::test {
namespace {

constexpr RoutingShape kShape{10, 2, 4};

Access access(int expert, AccessKind kind, bool cold = false, std::uint32_t evicted_before = 0) {
  return {expert_id(static_cast<std::size_t>(expert)), kind, cold, evicted_before};
}

ExpertKey key(std::uint32_t value) { return static_cast<ExpertKey>(value); }

}  // namespace

TEST_SUITE("cache accounting") {
  TEST_CASE("hits, misses, late ones and bytes") {
    CacheAccounting accounting(kShape, {1, 2, 3, 4, 50, 60, 70, 80});
    CHECK(accounting.expert_bytes(key(5)) == 60);
    const std::vector<Access> accesses = {
        access(0, AccessKind::kMiss, true), access(1, AccessKind::kLate, true),
        access(2, AccessKind::kHit, true), access(3, AccessKind::kMiss)};
    accounting.count(0, layer_id(1), {0, accesses, {}, false});
    const CacheCounts& counts = accounting.counts();
    CHECK(counts.accesses == 4);
    CHECK(counts.hits == 1);
    CHECK(counts.misses == 3);
    CHECK(counts.late == 1);
    CHECK(counts.cold_misses == 2);         // a first access that hits is no miss
    CHECK(counts.loads == 2);               // the late one was counted when its read began
    CHECK(counts.demand_bytes == 50 + 80);  // the late one is not read again
  }

  TEST_CASE("a lifetime runs from the load to the eviction") {
    CacheAccounting accounting(kShape, std::vector<std::uint64_t>(8, 1));
    const std::vector<Access> load = {access(0, AccessKind::kMiss)};
    accounting.count(2, layer_id(0), {0, load, {}, false});
    const std::vector<Access> hit = {access(0, AccessKind::kHit)};
    accounting.count(5, layer_id(0), {1, hit, {}, false});
    const std::vector<ExpertKey> gone = {key(0)};
    accounting.count_speculative(9, key(3), gone);
    CHECK(accounting.counts().loads == 2);
    CHECK(accounting.counts().evictions == 1);
    CHECK(accounting.counts().lifetime_tokens == 7);
    const std::vector<ExpertKey> speculative_gone = {key(3)};
    accounting.count(10, layer_id(0), {2, load, speculative_gone, false});
    CHECK(accounting.counts().lifetime_tokens == 8);
  }

  TEST_CASE("an expert that leaves and returns within one visit has two lifetimes") {
    CacheAccounting accounting(kShape, std::vector<std::uint64_t>(8, 1));
    const std::vector<Access> load = {access(1, AccessKind::kMiss)};
    accounting.count(1, layer_id(0), {0, load, {}, false});
    // Expert 0 pushes 1 out, then 1 pushes 0 out.
    const std::vector<Access> visit = {access(0, AccessKind::kMiss, true, 0),
                                       access(1, AccessKind::kMiss, false, 1)};
    const std::vector<ExpertKey> gone = {key(1), key(0)};
    accounting.count(4, layer_id(0), {1, visit, gone, false, true});
    CHECK(accounting.counts().lifetime_tokens == 3 + 0);
    CHECK(accounting.counts().loads == 3);
    const std::vector<ExpertKey> last = {key(1)};
    accounting.count(6, layer_id(0), {2, {}, last, false});
    CHECK(accounting.counts().lifetime_tokens == 3 + 2);
  }

  TEST_CASE("what an at-once visit brings in and drops again neither enters nor leaves") {
    CacheAccounting accounting(kShape, std::vector<std::uint64_t>(8, 1));
    const std::vector<Access> one = {access(0, AccessKind::kMiss)};
    accounting.count(1, layer_id(0), {0, one, {}, false});
    // Three experts run, one place: 0 leaves, and so do 1 and 2 of this very visit.
    const std::vector<Access> visit = {access(1, AccessKind::kMiss), access(2, AccessKind::kMiss),
                                       access(3, AccessKind::kMiss)};
    const std::vector<ExpertKey> gone = {key(0), key(1), key(2)};
    accounting.count(4, layer_id(0), {1, visit, gone, false});
    CHECK(accounting.counts().misses == 4);
    CHECK(accounting.counts().demand_bytes == 4);
    CHECK(accounting.counts().loads == 2);
    CHECK(accounting.counts().evictions == 1);
    CHECK(accounting.counts().lifetime_tokens == 3);
  }

  TEST_CASE("what streams past a cache of capacity 0 is read but never loaded") {
    CacheAccounting accounting(kShape, std::vector<std::uint64_t>(8, 5));
    const std::vector<Access> visit = {access(0, AccessKind::kMiss)};
    accounting.count(0, layer_id(0), {0, visit, {}, true});
    CHECK(accounting.counts().demand_bytes == 5);
    CHECK(accounting.counts().loads == 0);
  }

  TEST_CASE("a region of interest is a difference") {
    const CacheCounts early{1, 2, 3, 4, 5, 6, 7, 8, 9};
    const CacheCounts late{10, 20, 30, 40, 50, 60, 70, 80, 90};
    const CacheCounts region = late - early;
    CHECK(region.accesses == 9);
    CHECK(region.hits == 18);
    CHECK(region.misses == 27);
    CHECK(region.late == 36);
    CHECK(region.cold_misses == 45);
    CHECK(region.evictions == 54);
    CHECK(region.loads == 63);
    CHECK(region.demand_bytes == 72);
    CHECK(region.lifetime_tokens == 81);
  }

  TEST_CASE("sizes that do not fit the shape are a defect") {
    CHECK_THROWS_WITH_AS(CacheAccounting(kShape, {1, 2}),
                         "expert sizes do not fit the shape of the trace", InvariantError);
  }
}

}  // namespace moesim::test
