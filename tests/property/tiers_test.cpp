// What holds for every run with tiers behind the expert cache.
#include "core/rng.h"
#include "metrics/run_metrics.h"
#include "support/allocation_counter.h"
#include "support/scenario.h"
#include "support/tier_devices.h"

namespace moesim::test {
namespace {

constexpr std::uint64_t kExpertBytes = 3 * 256 * 512 * 2;

// One to three tiers of random size, the last of which may hold everything.
Json random_device(Rng& rng) {
  Json tiers = Json::array();
  const std::size_t count = 1 + rng.below(3);
  for (std::size_t i = 0; i < count; ++i) {
    Json tier = {
        {"name", "tier" + std::to_string(i)},
        {"link",
         {{"gbps", 1.0 + static_cast<double>(rng.below(30))}, {"latency_us", rng.below(50)}}}};
    if (i + 1 < count || rng.below(2) == 0) {
      tier["capacity_mib"] = 1.0 + static_cast<double>(rng.below(40));
      tier["eviction"] = {{"policy", rng.below(2) == 0 ? "lru" : "lfu"}};
    }
    tiers.push_back(tier);
  }
  return device_with_tiers(tiers.dump());
}

Json random_config(Rng& rng, Json config) {
  config["device"] = random_device(rng);
  const char* overlaps[] = {"none", "expert", "projection"};
  const bool global = rng.below(2) == 1;
  config["cache"] = {{"scope", global ? "global" : "layer"},
                     {"capacity_experts", global ? 8 + rng.below(40) : 4 + rng.below(9)},
                     {"accounting", rng.below(2) == 0 ? "event" : "access"},
                     {"overflow", rng.below(2) == 0 ? "trim" : "keep_event"},
                     {"reset", rng.below(2) == 0 ? "never" : "sequence"}};
  if (rng.below(5) == 0) config["cache"]["capacity_experts"] = 0;
  config["execution"] = {{"overlap", overlaps[rng.below(3)]},
                         {"lanes", 1 + rng.below(5)},
                         {"expert_layout", rng.below(2) == 0 ? "slices" : "contiguous"}};
  if (config["cache"]["capacity_experts"] != 0 && rng.below(2) == 0) {
    config["prefetch"] = {{"policy", "oracle"}, {"distance", 1 + rng.below(6)}};
  }
  return config;
}

TraceData random_trace(std::uint64_t seed, bool with_prefill) {
  TraceData trace = random_logits({40, 4, 16}, 4, seed);
  if (!with_prefill) return trace;
  trace.phase.assign(40, 1);
  trace.sequence.assign(40, 0);
  for (std::size_t token = 0; token < 40; ++token) {
    trace.sequence[token] = token < 20 ? 0 : 1;
    if (token % 20 < 5) trace.phase[token] = 0;
  }
  return trace;
}

// Adds up what passes report and checks each.
class TierChecker final : public RunObserver {
 public:
  explicit TierChecker(const RunPlan& plan) : plan_(plan), tiers(plan.tiers()->tiers()) {}

  void on_visit(const Pass&, LayerId, const VisitOutcome&, TimePoint) override {
    for (std::size_t tier = 1; tier <= tiers.size(); ++tier) {
      const ExpertCache* cache = plan_.tiers()->cache(tier);
      if (cache != nullptr && cache->used(0) > cache->capacity()) ++over_capacity;
    }
  }
  void on_pass(const PassRecord& record) override {
    const Duration wall = record.end - record.start;
    Duration parts{};
    for (const Duration part : record.parts) parts += part;
    Duration path{};
    for (const Duration part : record.path) path += part;
    if (parts != wall || path != wall || record.dependency > wall) ++broken;
    if (record.prefetch.issued == 0 && record.flash_bound > wall) ++impossible_flash;
    flash += record.flash;
    for (std::size_t i = 0; i < tiers.size(); ++i) tiers[i] += record.tiers[i];
  }

 private:
  const RunPlan& plan_;

 public:
  std::vector<TierCounts> tiers;
  FlashCounts flash;
  std::size_t over_capacity = 0;
  std::size_t broken = 0;
  std::size_t impossible_flash = 0;
};

}  // namespace

TEST_SUITE("property/tiers") {
  TEST_CASE("every byte that a tier hands on was asked for, and came from the tier behind") {
    Rng rng(21);
    for (std::uint64_t round = 0; round < 40; ++round) {
      Scenario scenario(random_trace(round, round % 2 == 1));
      scenario.config = random_config(rng, scenario.config);
      const std::string config = scenario.config.dump();
      CAPTURE(config);
      const auto plan = scenario.plan();
      TierChecker checker(*plan);
      plan->simulation()->run(0, plan->schedule().passes.size(), &checker, true);
      CHECK_NOTHROW(plan->simulation()->drain());
      CHECK(checker.over_capacity == 0);
      CHECK(checker.broken == 0);
      if (!scenario.config.contains("prefetch")) CHECK(checker.impossible_flash == 0);
      const CacheCounts& cache = plan->session().accounting().counts();
      std::uint64_t wanted = cache.misses - cache.late + plan->session().prefetched().issued;
      for (std::size_t i = 0; i < checker.tiers.size(); ++i) {
        const CacheCounts& counts = plan->tiers()->counts(i + 1);
        CHECK(counts.accesses == wanted);
        CHECK(counts.hits + counts.misses == counts.accesses);
        CHECK(counts.demand_bytes == counts.misses * kExpertBytes);
        CHECK(checker.tiers[i].cache.accesses == counts.accesses);
        // Of what is read ahead, the last may move only after the last pass has been reported.
        if (!scenario.config.contains("prefetch")) {
          CHECK(checker.tiers[i].link.bytes == wanted * kExpertBytes);
        }
        wanted = counts.misses;
      }
      if (!scenario.config["device"].contains("flash")) {
        CHECK(wanted == 0);
        CHECK(checker.flash.reads == 0);
      } else {
        CHECK(checker.flash.bytes == wanted * kExpertBytes);
      }
    }
  }

  TEST_CASE("tiers change when things happen and not what the cache decides") {
    Rng rng(22);
    for (std::uint64_t round = 0; round < 10; ++round) {
      Scenario scenario(random_trace(round, true));
      scenario.config = random_config(rng, scenario.config);
      scenario.config.erase("prefetch");
      Json tiered = result_json(scenario.run());
      scenario.config["device"] = scenario_device();
      Json plain = result_json(scenario.run());
      tiered.at("prefill").erase("ms");
      plain.at("prefill").erase("ms");
      for (const char* block : {"cache", "prefill", "routing"}) {
        CHECK(tiered.at(block) == plain.at(block));
      }
    }
  }

  TEST_CASE("equal inputs give equal bytes") {
    Rng rng(23);
    for (std::uint64_t round = 0; round < 6; ++round) {
      Scenario scenario(random_trace(round, true));
      scenario.config = random_config(rng, scenario.config);
      CHECK(result_json(scenario.run()).dump() == result_json(scenario.run()).dump());
    }
  }

  TEST_CASE("a larger tier that evicts the least recently used never finds less") {
    for (std::uint64_t seed = 0; seed < 4; ++seed) {
      std::uint64_t hits = 0;
      for (const double mib : {6.0, 12.0, 20.0, 30.0, 48.0}) {
        Scenario scenario(random_trace(seed, false));
        scenario.config["device"] = host_and_flash_device(mib);
        const std::uint64_t found = scenario.run().result.time->tiers[0].counts.cache.hits;
        CHECK(found >= hits);
        hits = found;
      }
    }
  }

  TEST_CASE("no allocation per token in steady state") {
    for (const bool ahead : {false, true}) {
      Scenario scenario(1400, 7);
      scenario.config["device"] = host_and_flash_device(30);
      scenario.config["cache"] = {{"capacity_experts", 6}};
      scenario.config["execution"]["overlap"] = "expert";
      if (ahead) scenario.config["prefetch"] = {{"policy", "oracle"}, {"distance", 2}};
      const auto plan = scenario.plan();
      RunMetrics metrics(*plan, false);
      plan->simulation()->run(0, 400, &metrics, false);
      const std::size_t before = allocations();
      plan->simulation()->run(400, 1400, &metrics, false);
      CHECK(allocations() - before == 0);
    }
  }
}

}  // namespace moesim::test
