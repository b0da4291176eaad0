// What holds for every run with several sequences in lock-step.
#include "core/rng.h"
#include "metrics/run_metrics.h"
#include "support/allocation_counter.h"
#include "support/streams.h"

namespace moesim::test {
namespace {

Json random_batch_config(Rng& rng, const Json& base) {
  const char* overlaps[] = {"none", "expert", "projection"};
  const char* routings[] = {"top_k", "cache_prior", "max_rank", "cumulative_threshold", "odp"};
  const char* evictions[] = {"lru", "lfu"};
  Json config = base;
  const bool global = rng.below(2) == 1;
  config["cache"] = {{"scope", global ? "global" : "layer"},
                     {"capacity_experts", global ? 8 + rng.below(57) : 4 + rng.below(13)},
                     {"eviction", {{"policy", evictions[rng.below(2)]}}},
                     {"accounting", rng.below(2) == 0 ? "event" : "access"},
                     {"overflow", rng.below(2) == 0 ? "trim" : "keep_event"},
                     {"touch_order", rng.below(2) == 0 ? "descending" : "ascending"}};
  config["routing"] = {{"policy", routings[rng.below(5)]}};
  config["execution"] = {{"overlap", overlaps[rng.below(3)]},
                         {"lanes", 1 + rng.below(5)},
                         {"threads", 4},
                         {"batch", 2 + rng.below(2)}};
  if (rng.below(2) == 1) config["execution"]["scheduler"] = "expertflow";
  const bool has_future =
      config["routing"]["policy"] == "top_k" || config["routing"]["policy"] == "odp";
  if (has_future && rng.below(2) == 1) {
    config["prefetch"] = {{"policy", "oracle"}, {"distance", 1 + rng.below(6)}};
  }
  return config;
}

TraceData random_trace(Rng& rng, std::uint64_t seed) {
  std::vector<SequenceLength> lengths;
  for (int s = 0; s < 7; ++s) lengths.push_back({rng.below(2) * rng.below(6), 1 + rng.below(9)});
  return random_streams(lengths, seed);
}

Duration sum(const auto& parts) {
  Duration total{};
  for (const Duration part : parts) total += part;
  return total;
}

class BatchChecker final : public RunObserver {
 public:
  void on_visit(const Pass& pass, LayerId /*layer*/, const VisitOutcome& visit,
                TimePoint) override {
    if (pass.tokens.empty()) return;
    std::uint64_t hits = 0;
    std::uint64_t misses = 0;
    std::uint64_t chosen = 0;
    std::vector<bool> used(16);
    for (const RoutedToken& token : visit.tokens) {
      hits += token.hits;
      misses += token.misses;
      chosen += token.executed->ids.size();
      for (const ExpertId id : token.executed->ids) used[index(id)] = true;
    }
    std::uint64_t served = 0;
    for (const std::uint32_t tokens : visit.served) served += tokens;
    const auto distinct = static_cast<std::size_t>(std::count(used.begin(), used.end(), true));
    wrong_union += visit.accesses.size() == distinct ? 0 : 1;
    wrong_shares += hits + misses == distinct && served == chosen ? 0 : 1;
  }
  void on_pass(const PassRecord& record) override {
    const Duration wall = record.end - record.start;
    broken += sum(record.parts) == wall && sum(record.path) == wall ? 0 : 1;
    broken += record.dependency <= wall ? 0 : 1;
    broken += record.cache.hits + record.cache.misses == record.cache.accesses ? 0 : 1;
    flash_bytes += record.flash.bytes;
  }
  std::size_t wrong_union = 0;
  std::size_t wrong_shares = 0;
  std::size_t broken = 0;
  std::uint64_t flash_bytes = 0;
};

// The cache block, without what is divided by the number of tokens.
Json cache_of(const Scenario& scenario) {
  Json cache = result_json(scenario.run()).at("cache");
  cache.erase("mib_per_token");
  return cache;
}

}  // namespace

TEST_SUITE("property/batch") {
  TEST_CASE("copies of one sequence in lock-step have the misses of one, under every routing") {
    std::size_t covered = 0;
    for (const auto& [name, entry] : Registry<RoutingPolicy>::instance().all()) {
      const std::string policy = name;
      CAPTURE(policy);
      if (policy == "selection_bias") continue;  // its prices move with every token of a batch
      Scenario scenario(equal_streams(24, 3, 6));
      scenario.config["routing"] = {{"policy", policy}};
      scenario.config["trace"]["max_tokens"] = 24;
      Json one;
      try {
        one = cache_of(scenario);
      } catch (const UserError&) {
        continue;  // it needs more than logits, or parameters of its own
      }
      scenario.config["trace"]["max_tokens"] = nullptr;
      scenario.config["execution"]["batch"] = 3;
      CHECK(cache_of(scenario) == one);
      ++covered;
    }
    CHECK(covered >= 5);
  }

  TEST_CASE("copies of one sequence have the misses of one, under every eviction and cache rule") {
    std::size_t covered = 0;
    for (const auto& [name, entry] : Registry<EvictionPolicy>::instance().all()) {
      for (const char* accounting : {"event", "access"}) {
        for (const char* order : {"descending", "ascending"}) {
          const std::string policy = name;
          CAPTURE(policy);
          CAPTURE(accounting);
          CAPTURE(order);
          Scenario scenario(equal_streams(24, 2, 8));
          scenario.config["cache"] = {{"capacity_experts", 6},
                                      {"eviction", {{"policy", policy}}},
                                      {"accounting", accounting},
                                      {"touch_order", order}};
          scenario.config["trace"]["max_tokens"] = 24;
          Json one;
          try {
            one = cache_of(scenario);
          } catch (const UserError&) {
            continue;  // it needs parameters of its own
          }
          scenario.config["trace"]["max_tokens"] = nullptr;
          scenario.config["execution"]["batch"] = 2;
          CHECK(cache_of(scenario) == one);
          ++covered;
        }
      }
    }
    CHECK(covered >= 16);
  }

  TEST_CASE("invariants of every pass and visit, over random configurations and traces") {
    Rng rng(21);
    std::size_t split_runs = 0;
    for (std::uint64_t round = 0; round < 40; ++round) {
      Scenario scenario(random_trace(rng, round));
      scenario.config = random_batch_config(rng, scenario.config);
      const std::string config = scenario.config.dump();
      CAPTURE(config);
      const auto plan = scenario.plan();
      const TokenSchedule& schedule = plan->schedule();
      BatchChecker checker;
      plan->simulation()->run(0, schedule.passes.size(), &checker, true);
      CHECK_NOTHROW(plan->simulation()->drain());
      CHECK(checker.wrong_union == 0);
      CHECK(checker.wrong_shares == 0);
      CHECK(checker.broken == 0);
      CHECK(checker.flash_bytes == plan->session().accounting().counts().demand_bytes +
                                       plan->session().prefetched().issued_bytes);
      // Every decoded row is in one pass, after the rows before it.
      std::vector<std::uint32_t> seen(plan->trace().shape().tokens);
      std::vector<std::int64_t> last(7, -1);
      std::size_t backwards = 0;
      for (const Pass& pass : schedule.passes) {
        CHECK(pass.tokens.size() <= schedule.tokens_in_pass);
        for (const PassToken& token : pass.tokens) {
          ++seen[token.row];
          std::int64_t& before = last[static_cast<std::size_t>(token.sequence)];
          backwards += token.row > before ? 0 : 1;
          before = token.row;
        }
      }
      CHECK(backwards == 0);
      for (std::size_t row = 0; row < seen.size(); ++row) {
        CHECK(seen[row] == (plan->trace().phase(row) == Phase::kDecode ? 1 : 0));
      }
      if (schedule.scheduler) {
        ++split_runs;
        CHECK(schedule.scheduler->objective_after <= schedule.scheduler->objective_before);
      }
    }
    CHECK(split_runs > 5);
  }

  TEST_CASE("the replay without time makes the same decisions, and rows add up to the totals") {
    Rng rng(22);
    for (std::uint64_t round = 0; round < 12; ++round) {
      Scenario scenario(random_trace(rng, round));
      scenario.config = random_batch_config(rng, scenario.config);
      scenario.config.erase("prefetch");
      const std::string config = scenario.config.dump();
      CAPTURE(config);
      const auto plan = scenario.plan();
      const RunResult result = execute(*plan, {true});
      std::uint64_t hits = 0;
      std::uint64_t misses = 0;
      std::uint64_t bytes = 0;
      std::uint64_t experts = 0;
      Duration wall{};
      for (const TokenRow& row : result.rows) {
        hits += row.hits;
        misses += row.misses;
        bytes += row.read_bytes;
        experts += row.experts;
        wall += row.wall;
        CHECK(sum(row.parts) == row.wall);
      }
      CHECK(result.rows.size() == result.measured_tokens);
      CHECK(hits == result.cache.hits);
      CHECK(misses == result.cache.misses);
      CHECK(bytes == result.cache.demand_bytes);
      CHECK(wall == result.time->token_wall);
      CHECK(sum(result.time->parts) == result.time->token_wall);
      CHECK(sum(result.time->path) == result.time->token_wall);
      CHECK(static_cast<double>(experts) ==
            doctest::Approx(result.routing.mean.experts *
                            static_cast<double>(result.routing.mean.visits)));
      CHECK(result.batch->distinct_experts == result.cache.accesses);
      Json timed = result_json(scenario.run());
      scenario.config["device"] = nullptr;
      Json replayed = result_json(scenario.run());
      timed.at("prefill").erase("ms");
      replayed.at("prefill").erase("ms");
      for (const char* block : {"cache", "prefill", "routing", "tokens"}) {
        CHECK(timed.at(block) == replayed.at(block));
      }
    }
  }

  TEST_CASE("equal inputs give equal bytes") {
    Rng rng(23);
    for (std::uint64_t round = 0; round < 4; ++round) {
      Scenario scenario(random_trace(rng, round));
      scenario.config = random_batch_config(rng, scenario.config);
      CHECK(result_json(scenario.run()).dump() == result_json(scenario.run()).dump());
    }
  }

  TEST_CASE("offline policies look into the events of the batches") {
    for (std::uint64_t seed = 0; seed < 4; ++seed) {
      Scenario scenario(random_streams({{0, 20}, {0, 12}, {3, 9}, {0, 20}}, seed));
      scenario.config["execution"]["batch"] = 2;
      scenario.config["cache"] = {{"capacity_experts", 8}};
      const RunResult lru = scenario.run().result;
      scenario.config["cache"]["eviction"] = {{"policy", "belady"}};
      const RunResult belady = scenario.run().result;
      scenario.config["cache"]["eviction"] = {{"policy", "min_bypass"}};
      const RunResult bypass = scenario.run().result;
      CHECK(bypass.cache.misses <= belady.cache.misses);
      CHECK(bypass.cache.misses <= lru.cache.misses);
      CHECK(static_cast<double>(belady.cache.hits) / static_cast<double>(belady.cache.accesses) ==
            doctest::Approx(*lru.belady_hit_rate).epsilon(1e-12));
      // Read ahead by one visit, with time enough: what is demanded has been named.
      scenario.config["cache"] = {{"capacity_experts", 16}};
      scenario.config["trace"]["prefill"] = "skip";  // what a prompt demands is counted apart
      scenario.config["device"]["flash"]["bw_gbps"] = 100;
      scenario.config["prefetch"] = {{"policy", "oracle"}, {"distance", 1}};
      const RunResult ahead = scenario.run().result;
      CHECK(ahead.prefetch.useful + ahead.prefetch.late > 0);
      CHECK(ahead.prefetch.useful + ahead.prefetch.late == ahead.prefetch.issued);
    }
  }

  TEST_CASE("plain top-k runs the experts of the trace, however they are batched") {
    Scenario scenario(random_streams({{0, 9}, {2, 14}, {0, 5}, {1, 7}, {0, 11}}, 3));
    const RunResult single = scenario.run().result;
    scenario.config["execution"]["batch"] = 2;
    const RunResult batch = scenario.run().result;
    scenario.config["execution"]["scheduler"] = "expertflow";
    const RunResult scheduled = scenario.run().result;
    for (const RunResult* result : {&batch, &scheduled}) {
      CHECK(result->measured_tokens == single.measured_tokens);
      CHECK(result->routing.mean.visits == single.routing.mean.visits);
      CHECK(result->routing.mean.agreement == 1);
      CHECK(result->cache.accesses < single.cache.accesses);
    }
    CHECK(scheduled.cache.accesses == scheduled.batch->scheduler->objective_after);
  }

  TEST_CASE("passes in steady state allocate nothing") {
    for (const char* scheduler : {"none", "expertflow"}) {
      CAPTURE(scheduler);
      Scenario scenario(random_streams({{0, 300}, {0, 300}, {0, 300}, {0, 300}}, 9));
      scenario.config["routing"] = {{"policy", "cache_prior"}};
      scenario.config["execution"]["batch"] = 2;
      scenario.config["execution"]["scheduler"] = scheduler;
      scenario.config["execution"]["overlap"] = "expert";
      const auto plan = scenario.plan();
      RunMetrics metrics(*plan, true);
      plan->simulation()->run(0, 200, &metrics, false);
      const std::size_t before = allocations();
      plan->simulation()->run(200, plan->schedule().passes.size(), &metrics, false);
      CHECK(allocations() - before == 0);
    }
  }
}

}  // namespace moesim::test
