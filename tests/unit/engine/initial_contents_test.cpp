// cache.initial and cache.cold_start through configurations.
#include "engine/initial_contents.h"

#include <set>

#include "core/files.h"
#include "support/scenario.h"

namespace moesim::test {
namespace {

using Lists = std::vector<std::vector<int>>;

// What a cache of 3 experts per layer, or of `capacity` in all, holds at the start; 2 layers of 8.
Lists contents(const Json& cache, const TraceData& trace = random_logits({12, 2, 8}, 2, 3)) {
  Scenario scenario(trace);
  scenario.config.erase("model");
  scenario.config["device"] = nullptr;
  scenario.config["cache"] = {{"capacity_experts", 3}};
  scenario.config["cache"].update(cache);
  const auto plan = scenario.plan();
  Lists lists;
  for (std::uint16_t layer = 0; layer < 2; ++layer) {
    lists.emplace_back();
    const ResidencyView view = plan->session().cache().view(LayerId{layer});
    for (std::uint16_t e = 0; e < 8; ++e) {
      if (view.resident(ExpertId{e})) lists.back().push_back(e);
    }
  }
  return lists;
}

Lists initial(const Json& choice) { return contents({{"initial", choice}}); }

std::string error_of(const Json& choice) {
  return user_error_of([&] { initial(choice); });
}

// Expert 5 in both layers most, then 2 in layer 0 and 6 in layer 1; 7 only in decode.
TraceData counted_trace(bool prompts) {
  TraceData data;
  data.shape = {6, 2, 8};
  data.k = 1;
  data.ids = {5, 5, 5, 6, 2, 5, 7, 7, 7, 7, 7, 7};
  data.phase = {0, 0, 0, 1, 1, 1};
  if (!prompts) data.phase.clear();
  data.metadata = {{"top_k", "1"}, {"gate", "A"}};
  return data;
}

}  // namespace

TEST_SUITE("initial contents") {
  TEST_CASE("fills that do not look at the trace") {
    CHECK(initial("empty") == Lists{{}, {}});
    CHECK(initial("head") == Lists{{0, 1, 2}, {0, 1, 2}});
    CHECK(initial("tail") == Lists{{5, 6, 7}, {5, 6, 7}});
    CHECK(initial("even") == Lists{{0, 2, 5}, {0, 2, 5}});
    // One cache for all: its 5 places go round the layers.
    const auto global = [](const char* name) {
      return contents({{"initial", name}, {"scope", "global"}, {"capacity_experts", 5}});
    };
    CHECK(global("head") == Lists{{0, 1, 2}, {0, 1}});
    CHECK(global("even") == Lists{{0, 2, 5}, {0, 2}});
  }

  TEST_CASE("a random fill is seeded, and differs between layers") {
    std::set<Lists> seen;
    for (const int seed : {1, 2, 3, 1}) {
      Scenario scenario(random_logits({12, 4, 16}, 4, 3));
      scenario.config["cache"]["initial"] = "random";
      scenario.config["seed"] = seed;
      const auto plan = scenario.plan();
      Lists lists;
      for (std::uint16_t layer = 0; layer < 4; ++layer) {
        lists.emplace_back();
        for (std::uint16_t e = 0; e < 16; ++e) {
          if (plan->session().cache().view(LayerId{layer}).resident(ExpertId{e})) {
            lists.back().push_back(e);
          }
        }
        CHECK(lists.back().size() == 8);
      }
      CHECK(lists[0] != lists[1]);
      seen.insert(lists);
    }
    CHECK(seen.size() == 3);
  }

  TEST_CASE("the hot experts of the prompts, or of the whole trace") {
    const auto hot = [](const char* name, std::uint64_t capacity, const char* scope) {
      return contents({{"initial", name}, {"capacity_experts", capacity}, {"scope", scope}},
                      counted_trace(true));
    };
    CHECK(hot("hot_prefill", 1, "layer") == Lists{{5}, {5}});
    CHECK(hot("hot_prefill", 3, "layer") == Lists{{2, 5}, {5, 6}});  // no more were used
    CHECK(hot("hot_trace", 1, "layer") == Lists{{7}, {7}});
    // Over all layers: 7 in both (three uses each), then 5 in both (two each).
    CHECK(hot("hot_trace", 3, "global") == Lists{{5, 7}, {7}});
    CHECK(contains(user_error_of([] {
                     contents({{"initial", "hot_prefill"}}, counted_trace(false));
                   }),
                   "/cache/initial: hot_prefill counts prompt tokens, which the trace "
                   "trace.safetensors lacks"));
  }

  TEST_CASE("the experts of the last prompt token") {
    const auto last = [](const TraceData& trace, const char* reset) {
      return contents({{"initial", "last_prompt_token"}, {"reset", reset}}, trace);
    };
    CHECK(last(counted_trace(true), "never") == Lists{{2}, {5}});
    CHECK(contains(user_error_of([&] { last(counted_trace(false), "never"); }),
                   "/cache/initial: last_prompt_token needs a prompt before the first decoded "
                   "token, which the trace trace.safetensors lacks"));
    CHECK(contains(user_error_of([&] { last(counted_trace(true), "sequence"); }),
                   "/cache/initial: expected another choice than last_prompt_token with reset"));
  }

  TEST_CASE("given lists, in the configuration or in a file") {
    CHECK(initial({{3, 1}, Json::array()}) == Lists{{1, 3}, {}});
    Scenario scenario(random_logits({12, 2, 8}, 2, 3));
    scenario.config.erase("model");
    scenario.config["device"] = nullptr;
    scenario.config["cache"] = {{"capacity_experts", 2}, {"initial", {{"file", "warm.json"}}}};
    write_file_atomically(scenario.folder() / "warm.json",
                          [](std::ostream& out) { out << "[[7], [0, 4]]"; });
    const RunReport report = scenario.run();
    CHECK(report.facts.config.at("cache").at("initial") == Json{{"file", "warm.json"}});
    bool named = false;
    for (const RunReport::Input& input : report.inputs) named = named || input.path == "warm.json";
    CHECK(named);
    CHECK(scenario.plan()->session().cache().view(LayerId{1}).resident(ExpertId{4}));
    write_file_atomically(scenario.folder() / "warm.json",
                          [](std::ostream& out) { out << "[[7], [0, 9]]"; });
    CHECK(contains(user_error_of([&] { static_cast<void>(scenario.plan()); }),
                   "warm.json: /1: expected ids below 8, got 9"));
    write_file_atomically(scenario.folder() / "warm.json",
                          [](std::ostream& out) { out << "[[7]]"; });
    CHECK(contains(user_error_of([&] { static_cast<void>(scenario.plan()); }),
                   "warm.json: expected lists for 2 layers as in the trace, got 1"));
    write_file_atomically(scenario.folder() / "warm.json", [](std::ostream& out) { out << "{}"; });
    CHECK(contains(user_error_of([&] { static_cast<void>(scenario.plan()); }),
                   "/cache/initial/file: warm.json: expected a list of expert ids for each layer"));
  }

  TEST_CASE("lists that do not fit") {
    CHECK(contains(error_of({{1}}), "/cache/initial: expected lists for 2 layers as in the trace"));
    CHECK(contains(error_of({{1}, {8}}), "/cache/initial/1: expected ids below 8, got 8"));
    CHECK(contains(error_of({{1, 1}, {2}}), "/cache/initial/0: expected every expert once, got 1"));
    CHECK(contains(error_of({{1}, {0, 1, 2, 3}}),
                   "/cache/initial/1: expected no more experts than the cache holds of a layer"));
    CHECK(
        contains(error_of({1, 2}), "/cache/initial: expected a list of expert ids for each layer"));
    CHECK(contains(error_of({{1}, {-2}}), ", such as [[0, 5], [3, 1]], got -2"));
    CHECK(contains(error_of("hot"), "/cache/initial: unknown value \"hot\"; known: empty, head"));
    CHECK(contains(error_of({{"path", "x"}}), "/cache/initial/file: missing key"));
  }

  TEST_CASE("the cold start: default, name and bounds") {
    Scenario scenario(random_logits({40, 4, 16}, 4, 3));
    const RunReport strict = scenario.run();
    CHECK(strict.facts.config.at("cache").at("cold_start") == "strict");
    CHECK(strict.facts.config.at("cache").at("initial") == "empty");
    scenario.config["cache"]["cold_start"] = "hit_until_full";
    const RunResult counted = scenario.run().result;
    // All 8 places of the 4 layers are filled for nothing.
    CHECK(counted.cache.hits == strict.result.cache.hits + 8 * 4);
    CHECK(counted.cache.demand_bytes < strict.result.cache.demand_bytes);
    CHECK(*counted.belady_hit_rate > *strict.result.belady_hit_rate);
    CHECK(counted.offline->min_bypass <= counted.offline->upper_bound + 1e-12);
    scenario.config["cache"]["cold_start"] = "warm";
    CHECK(contains(user_error_of([&] { static_cast<void>(scenario.run()); }),
                   "/cache/cold_start: unknown value \"warm\"; known: strict, hit_until_full"));
  }
}

}  // namespace moesim::test
