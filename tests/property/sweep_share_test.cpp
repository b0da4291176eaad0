// Runs that share with others of a sweep give the very result of a run on their own.
#include <map>

#include "api/shared_runs.h"
#include "cache/eviction/eviction_policy.h"
#include "support/scenario.h"

namespace moesim::test {
namespace {

// Two sequences, each with a prompt whose union is larger than small caches.
TraceData prompted_trace() {
  TraceData data = random_logits({48, 4, 16}, 4, 5);
  for (std::size_t token = 0; token < data.shape.tokens; ++token) {
    data.sequence.push_back(token < 20 ? 0 : 1);
    data.phase.push_back((token < 4 || (token >= 20 && token < 23)) ? 0 : 1);
  }
  return data;
}

Scenario untimed_scenario() {
  Scenario scenario(prompted_trace());
  scenario.config["device"] = nullptr;
  scenario.config["trace"]["warmup_tokens"] = 2;
  return scenario;
}

std::string text_of(const RunReport& report) { return result_json(report).dump(); }

// The runs of `configs` together and each on its own; nullopt-like where a run is refused.
std::size_t check_together(Scenario& scenario, const std::vector<Json>& configs) {
  SharedRuns shared;
  std::vector<Json> runnable;
  for (const Json& config : configs) {
    scenario.config = config;
    try {
      shared.announce(*plan_run(scenario.text(), &shared.share()));
      runnable.push_back(config);
    } catch (const UserError&) {
    }
  }
  for (const Json& config : runnable) {
    scenario.config = config;
    CAPTURE(config.dump());
    ExecuteOptions options;
    options.shared = &shared;
    // The checksum of the file is that of its first text, which only the test changes.
    RunReport together = run(scenario.text(), options);
    const RunReport alone = scenario.run();
    together.inputs = alone.inputs;
    CHECK(text_of(together) == text_of(alone));
  }
  return runnable.size();
}

// Caches of every kind of rule in `scope`, with all capacities that are worth it.
std::vector<Json> caches(const Json& eviction, const std::string& scope) {
  const int most = scope == "global" ? 64 : 16;
  std::vector<Json> all;
  for (const char* overflow : {"trim", "keep_event"}) {
    for (const char* accounting : {"event", "access"}) {
      for (const char* order : {"descending", "ascending"}) {
        for (const char* reset : {"never", "sequence"}) {
          for (int capacity = 0; capacity <= most; capacity += capacity < 8 ? 1 : 5) {
            all.push_back({{"scope", scope},
                           {"overflow", overflow},
                           {"accounting", accounting},
                           {"touch_order", order},
                           {"reset", reset},
                           {"eviction", eviction},
                           {"capacity_experts", capacity}});
          }
        }
      }
    }
  }
  return all;
}

std::vector<Json> with_caches(const Json& base, const std::vector<Json>& all) {
  std::vector<Json> configs;
  configs.reserve(all.size());
  for (const Json& cache : all) {
    configs.push_back(base);
    configs.back()["cache"] = cache;
  }
  return configs;
}

}  // namespace

TEST_SUITE("property/sweep share") {
  TEST_CASE("LRU of every capacity from one pass, under every rule of the cache") {
    Scenario scenario = untimed_scenario();
    const Json base = scenario.config;
    for (const char* scope : {"layer", "global"}) {
      CHECK(check_together(scenario, with_caches(base, caches({{"policy", "lru"}}, scope))) > 120);
    }
  }

  TEST_CASE("LRU under every routing that does not look at the cache") {
    Scenario scenario = untimed_scenario();
    const Json base = scenario.config;
    for (const Json& routing :
         {Json{{"policy", "top_k"}, {"k", 2}}, Json{{"policy", "top_p"}, {"P", 0.7}},
          Json{{"policy", "tsallis_hybrid"}}, Json{{"policy", "layer_plan"}},
          Json{{"policy", "cache_prior"}}}) {
      Json changed = base;
      changed["routing"] = routing;
      std::vector<Json> some;
      for (const int capacity : {0, 4, 5, 9, 16}) {
        some.push_back({{"capacity_experts", capacity}, {"overflow", "keep_event"}});
        some.push_back({{"capacity_experts", capacity * 4}, {"scope", "global"}});
        some.push_back({{"capacity_fraction", capacity / 16.0}});
      }
      CAPTURE(routing.dump());
      check_together(scenario, with_caches(changed, some));
    }
  }

  TEST_CASE("capacities in bytes, also with experts of unequal size, contents and cold starts") {
    TraceData data = prompted_trace();
    for (const bool equal : {true, false}) {
      data.expert_bytes = equal ? std::vector<std::int64_t>{1 << 20, 1 << 20, 1 << 20, 1 << 20}
                                : std::vector<std::int64_t>{1 << 20, 3 << 20, 1 << 20, 2 << 20};
      Scenario scenario(data);
      scenario.config["device"] = nullptr;
      std::vector<Json> some;
      for (const double mib : {1.5, 16.0, 21.7, 33.0, 64.0}) {
        for (const char* scope : {"layer", "global"}) {
          some.push_back({{"capacity_mib", mib}, {"scope", scope}, {"overflow", "keep_event"}});
          some.push_back({{"capacity_mib", 3 * mib}, {"scope", scope}});
          some.push_back({{"capacity_mib", 3 * mib}, {"scope", scope}, {"initial", "hot_trace"}});
          some.push_back(
              {{"capacity_mib", 3 * mib}, {"scope", scope}, {"cold_start", "hit_until_full"}});
        }
      }
      CHECK(check_together(scenario, with_caches(scenario.config, some)) > 20);
    }
  }

  TEST_CASE("every eviction policy") {
    Scenario scenario = untimed_scenario();
    const Json base = scenario.config;
    for (const auto& entry : Registry<EvictionPolicy>::instance().all()) {
      std::vector<Json> some;
      for (const int capacity : {0, 5, 11}) {
        const Json eviction = {{"policy", entry.first}};
        some.push_back({{"capacity_experts", capacity}, {"eviction", eviction}});
        some.push_back(
            {{"capacity_experts", 4 * capacity}, {"scope", "global"}, {"eviction", eviction}});
      }
      CAPTURE(entry.first);
      CHECK(check_together(scenario, with_caches(base, some)) > 3);
    }
  }

  TEST_CASE("runs with time, batches, and misses at low precision share what they can") {
    Scenario scenario(prompted_trace());
    const Json base = scenario.config;
    std::vector<Json> configs;
    for (const int capacity : {4, 7}) {
      configs.push_back(base);
      configs.back()["cache"]["capacity_experts"] = capacity;
      configs.push_back(configs.back());
      configs.back()["execution"]["lanes"] = 1;
      configs.push_back(configs.back());
      configs.back()["routing"] = {{"policy", "cache_prior"}};
      configs.push_back(base);
      configs.back()["device"] = nullptr;
      configs.back()["weights"]["on_miss"] = {{"policy", "hobbit"}};
      configs.push_back(base);
      configs.back()["device"] = nullptr;
      configs.back()["execution"] = {{"batch", 2}};
      configs.back()["cache"]["capacity_experts"] = capacity + 4;
    }
    CHECK(check_together(scenario, configs) >= 8);
  }
}

}  // namespace moesim::test
